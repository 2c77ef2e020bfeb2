// SPDX-License-Identifier: MIT
// How everything that the environment can refuse is reported: a value, or an error with the thing it happened to.
#pragma once

#include <cerrno>
#include <string>
#include <system_error>
#include <tl/expected.hpp>
#include <utility>

namespace laggard {

struct Error {
  std::string context;   // the thing and, where there is one, the next step; a whole sentence without a full stop
  std::error_code code;  // default: the context says it all

  std::string message() const { return code ? context + ": " + code.message() : context; }
};

template <class T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> failure(std::string context, std::error_code code = {})
{
  return tl::make_unexpected(Error{std::move(context), code});
}

inline tl::unexpected<Error> errno_failure(std::string context, int error = errno)
{
  return failure(std::move(context), std::error_code(error, std::system_category()));
}

}  // namespace laggard

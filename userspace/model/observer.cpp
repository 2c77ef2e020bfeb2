// SPDX-License-Identifier: MIT
#include "model/observer.h"

namespace laggard::model {

std::string Observer::hooks_text() const
{
  std::string text;
  for (const HookChoice& choice : hooks) {
    if (choice.hook.empty())
      continue;
    if (!text.empty())
      text += ' ';
    text += choice.feed + '=' + choice.hook;
  }
  return text;
}

}  // namespace laggard::model

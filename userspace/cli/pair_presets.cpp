// SPDX-License-Identifier: MIT
// The pairs files that are compiled in. Each says where its facts come from, and where it is wrong.
#include <array>

#include "cli/pairs_file.h"

namespace laggard::cli {
namespace {

constexpr const char* kMsquic = R"toml(
# Sends that msquic has taken and not completed: the program's buffers and msquic's copies of them are kept for so long.
#
# From microsoft/msquic, the same in sources of about 2.1 and of about 2.5; the versions between were not compared.
# - src/core/api.c, MsQuicStreamSend: the fifth argument is the context that the completion will carry.
# - src/core/stream.h, QUIC_SEND_REQUEST: that context is its last member, at 56 of 64 bytes on 64-bit machines.
# - src/core/stream_send.c: SEND_COMPLETE is indicated in two functions, both with (stream, request):
#   QuicStreamSendBufferRequest, once the data is copied (send buffering, the default), which then clears the context; and
#   QuicStreamCompleteSendRequest, once all is acknowledged or the send is cancelled. The latter releases copied requests,
#   too: with no context then, which ends nothing here.
#
# Limits.
# - A call that MsQuicStreamSend refuses (stream closed, no memory) begins an operation that never ends.
# - Contexts must differ. If all are NULL, each copied send ends twice and a pile of sends may be missed, never invented.
# - None of the three is static. On Linux 2.1 is built with -O3 -fPIC, without hidden visibility or LTO (CMakeLists.txt), so
#   that GCC inlines none of them; Clang may inline QuicStreamCompleteSendRequest into its callers: sends seem to pile up then.
#   The version script (src/bin/linux/exports.txt) exports none of them: a stripped library has not their names.
# - A program that links msquic statically needs this pair in a file of its own, with its own name as `binary`.
[[pair]]
name = "msquic-send"
binary = "libmsquic.so*"
begin = "MsQuicStreamSend"
begin_key = "arg5"
end = ["QuicStreamCompleteSendRequest", "QuicStreamSendBufferRequest"]
end_key = "*(arg2+56)"
repeats = "count"
)toml";

constexpr const char* kQuicGo = R"toml(
# Streams that quic-go has made and not completed: one of the two directions is not finished. The usual cause is a program
# that neither reads a stream to its end nor cancels it.
#
# From lucas-clemente/quic-go 0.29 (Debian 12, built with Go 1.19, its binary disassembled and run under gdb):
# - newStream: once for each bidirectional stream, whoever opened it. First the stream's ID, then the connection behind an
#   interface of two words: the third is the connection. Not inlined.
# - (*connection).onStreamCompleted: once for each stream whose directions are all finished, connection and ID. Called
#   through an interface, so not inlined. Unidirectional streams complete without newStream: such an end ends nothing.
# - (*connection).handleCloseError: once for each connection, at its end. Its open streams are dropped, not completed.
# Connections are on the heap and stay where they are.
[[pair]]
name = "quic-go-stream"
binary = "*"
begin = "*lucas-clemente/quic-go.newStream"
begin_key = ["arg3", "arg1"]
end = "*lucas-clemente/quic-go.(*connection).onStreamCompleted"
end_key = ["arg1", "arg2"]
abandon = "*lucas-clemente/quic-go.(*connection).handleCloseError"
abandon_key = "arg1"
repeats = "ignore"

# Later quic-go, which moved to quic-go/quic-go and changed the arguments of newStream more than once (its sources up to 2025
# were read, no binary was run): what stayed is the method newFlowController that connection.go passes to streams_map.go, which
# calls it once for every stream, in both directions, with its ID. Go makes a wrapper of it, "...-fm", only ever called through
# a pointer. (*streamsMap).DeleteStream is called once for every stream that is finished; ID second.
# The ID is all that both have, and it is unique in a connection only: streams of several connections with one ID count as one,
# so that the number is a lower bound, and exact for a program with one connection.
[[pair]]
name = "quic-go-stream-id"
binary = "*"
begin = "*quic-go/quic-go.(**).newFlowController-fm"
end = "*quic-go/quic-go.(*streamsMap).DeleteStream"
end_key = "arg2"
repeats = "ignore"
)toml";

constexpr const char* kGoHttp = R"toml(
# HTTP/1 requests of a Go client whose connection comes neither back to the pool nor to its end. The usual cause is a response
# whose Body nobody reads to the end or closes.
#
# From net/http/transport.go of Go 1.19 (Debian 12, its binaries disassembled and run under gdb):
# - (*persistConn).roundTrip: once for each request, on its connection.
# - (*Transport).tryPutIdleConn: the connection has nothing to do any more and goes to the pool; second argument.
# - (*persistConn).close: it is at its end; at least once for each connection. What was not begun ends nothing.
# The pair readLoop and close would count the connections themselves: an idle pool, which is healthy, never closes any.
#
# Limits.
# - A request that waits for its answer is outstanding, as long polls are: what is slow once may be slow again.
# - A connection that became another protocol's (101 Switching Protocols) ends here, though its socket lives on.
# - HTTP/2 has one connection for many requests and does not pass here.
[[pair]]
name = "go-http-request"
binary = "*"
begin = "net/http.(*persistConn).roundTrip"
end = ["net/http.(*persistConn).close", {function = "net/http.(*Transport).tryPutIdleConn", key = "arg2"}]
repeats = "ignore"
)toml";

constexpr std::array<PairPreset, 3> kPresets = {{{"msquic", kMsquic}, {"quic-go", kQuicGo}, {"go-http", kGoHttp}}};

}  // namespace

std::span<const PairPreset> pair_presets() { return kPresets; }

}  // namespace laggard::cli

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
# - inc/msquic_posix.h: QUIC_FAILED() is "greater than 0"; then the send was not taken and is never completed.
#
# Limits.
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
begin_failed = "ret > 0"
end = ["QuicStreamCompleteSendRequest", "QuicStreamSendBufferRequest"]
end_key = "*(arg2+56)"
repeats = "count"
what = "sends"
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
never_inlined = true
what = "QUIC streams"

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
never_inlined = true
what = "QUIC streams"
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
never_inlined = true
what = "HTTP requests"
advice = "read each response's Body to its end or close it"
)toml";

constexpr const char* kOpenssl = R"toml(
# Reads that left decrypted bytes behind: the socket is empty, the rest of a TLS record waits in libssl. A program that waits for
# the socket then waits for nothing (man SSL_pending); the next bytes of the peer wake it, or nobody does.
#
# From libssl.so.3 of OpenSSL 3.0.19 (Debian 12) and 3.5.9 (Debian 13), measured: what SSL_pending() tells is the 8 bytes at 0x12b0 of the
# SSL object, in 3.5 at 0xd38; and the version and type of the record that they belong to are two ints at 0x12a8, in 3.5 at 0xd20:
# 0x0303, also in TLS 1.3, and 0x17, application data. Where these are not there the object is another's, and nothing begins.
# A read of any kind takes the bytes up, and who asks for their number knows of them.
#
# Limits.
# - OpenSSL 3.2 to 3.4 were not tried: where records are elsewhere, the pair is silent. No DTLS, no QUIC.
# - A program that stops reading on purpose in the middle of a record (a player, a paused download) looks the same, unless its socket
#   has unread bytes, too: then that is the finding.
# - SSL_set_read_ahead(): records that are read and not decrypted yet are not counted.
[[pair]]
name = "openssl-read"
binary = "libssl.so.3"
begin = ["SSL_read", "SSL_read_ex"]
begin_if = ["*(arg1+0x12b0) > 0", "*(arg1+0x12a8) == 0x1700000303"]
end = ["SSL_read", "SSL_read_ex", "SSL_peek", "SSL_peek_ex", "SSL_pending", "SSL_has_pending", "SSL_clear", "SSL_free"]
repeats = "ignore"
finds = "each"
never_inlined = true
what = "TLS connections with decrypted bytes that nobody reads"
advice = "read until SSL_pending() is 0 (WANT_READ) before waiting for the socket: it is empty, the bytes are in libssl"

[[pair]]
name = "openssl35-read"
binary = "libssl.so.3"
begin = ["SSL_read", "SSL_read_ex"]
begin_if = ["*(arg1+0xd38) > 0", "*(arg1+0xd20) == 0x1700000303"]
end = ["SSL_read", "SSL_read_ex", "SSL_peek", "SSL_peek_ex", "SSL_pending", "SSL_has_pending", "SSL_clear", "SSL_free"]
repeats = "ignore"
finds = "each"
never_inlined = true
what = "TLS connections with decrypted bytes that nobody reads"
advice = "read until SSL_pending() is 0 (WANT_READ) before waiting for the socket: it is empty, the bytes are in libssl"
)toml";

constexpr const char* kNghttp2 = R"toml(
# HTTP/2 streams that libcurl opens and that are not closed: the program neither reads them to their end nor takes them back, and each
# keeps its part of the peer's and of its own buffers. A server stops at 100 or so.
#
# From libnghttp2.so.14 of nghttp2 1.52 and libcurl 7.88 (Debian 12), every call with its arguments logged:
# - nghttp2_submit_request: once for each stream, returns its ID; first argument the session.
# - nghttp2_session_set_stream_user_data(session, ID, NULL): once for each stream when it is closed: finished, refused, cancelled, or its
#   reader gone.
# - nghttp2_session_del: once for each connection.
# The library calls no exported function of its own when a stream is closed: programs that take the stream's end only by a callback
# (nghttp, mod_proxy_http2) end nothing, and by this nothing is ever overtaken on their connections.
#
# Limits.
# - libcurl, and programs that clear a stream's user data as it does. Servers do not pass nghttp2_submit_request.
[[pair]]
name = "nghttp2-stream"
binary = "libnghttp2.so.14*"
begin = "nghttp2_submit_request"
begin_key = ["arg1", "ret"]
begin_failed = "ret < 0"
end = "nghttp2_session_set_stream_user_data"
end_key = ["arg1", "arg2"]
abandon = "nghttp2_session_del"
repeats = "ignore"
never_inlined = true
what = "HTTP/2 streams"
advice = "read each response to its end, or remove its handle (curl_multi_remove_handle)"
)toml";

constexpr const char* kLibpq = R"toml(
# Results of PostgreSQL queries that are never cleared: the memory of all their rows is kept.
#
# From libpq.so.5.15 (Debian 12), its binary: every result that a program gets passes PQgetResult, also in PQexec and its like,
# which call it; NULL is the end of a query's results. PQclear frees one.
#
# Limits.
# - PQmakeEmptyPGresult and PQcopyResult make results, too: they end here and never began.
# - A cursor that is kept open on purpose keeps its result.
[[pair]]
name = "libpq-result"
binary = "libpq.so.5*"
begin = "PQgetResult"
begin_key = "ret"
end = "PQclear"
repeats = "ignore"
never_inlined = true
what = "query results"
advice = "PQclear() each result, or close the cursor that holds it"
)toml";

constexpr std::array<PairPreset, 6> kPresets = {{
    {"msquic", "sends that msquic has taken and not completed", "MsQuic 2.5, 2.6, 2.7 built with symbols",
     "stripped libraries; sends whose contexts are all the same", "two hits per send", kMsquic},
    {"quic-go", "streams that quic-go has made and not completed", "quic-go 0.29, 0.50, 0.59 with Go 1.19, 1.24, 1.27",
     "since 0.30 or so, connections that use the same stream IDs count as one", "two hits per stream", kQuicGo},
    {"go-http", "HTTP/1 requests of a Go client whose connection comes neither back to the pool nor to its end", "Go 1.19, 1.24, 1.27",
     "HTTP/2; a request that waits for its answer, as a long poll does, is outstanding", "two or three hits per request", kGoHttp},
    {"openssl", "TLS reads that left decrypted bytes in libssl.so.3, which nobody takes up for --stall", "OpenSSL 3.0.19, 3.5.9",
     "OpenSSL 3.2 to 3.4 perhaps, programs that link it statically, read-ahead", "three hits per SSL_read()", kOpenssl},
    {"nghttp2", "HTTP/2 streams that libcurl opens and that are not closed", "nghttp2 1.52 with libcurl 7.88",
     "servers; clients that take a stream's end by a callback alone: nghttp, mod_proxy_http2", "two hits per stream, one more for its return", kNghttp2},
    {"libpq", "results of PostgreSQL queries that are never cleared", "libpq 15", "results that the program makes itself",
     "two hits per result, and one for the NULL behind them", kLibpq},
}};

}  // namespace

std::span<const PairPreset> pair_presets() { return kPresets; }

}  // namespace laggard::cli

// SPDX-License-Identifier: MIT
// client takes-one|drains PORT [READ_BUFFER_BYTES]
//
// A Qt client of records of 12 bytes. Qt emits readyRead once for all that has come, not once per record: only `drains`
// knows that.
#include <QCoreApplication>
#include <QTcpSocket>
#include <array>
#include <cstdio>

using Record = std::array<char, 12>;

int main(int argc, char** argv)
{
  const QCoreApplication app(argc, argv);
  const QStringList arguments = QCoreApplication::arguments();
  if (arguments.size() < 3)
    return 2;
  const bool drains = arguments[1] == "drains";

  QTcpSocket socket;
  if (arguments.size() > 3)
    socket.setReadBufferSize(arguments[3].toLongLong());
  QObject::connect(&socket, &QTcpSocket::readyRead, [&] {
    Record record;
    do
      socket.read(record.data(), record.size());
    while (drains && socket.bytesAvailable() > 0);
  });
  QObject::connect(&socket, &QTcpSocket::connected, [] {
    std::puts("ready");
    std::fflush(stdout);
  });
  QObject::connect(&socket, &QTcpSocket::disconnected, &app, &QCoreApplication::quit);
  socket.connectToHost("127.0.0.1", arguments[2].toUShort());
  return QCoreApplication::exec();
}

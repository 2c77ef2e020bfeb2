// SPDX-License-Identifier: MIT
// Growth ROLE PORT ARGUMENT...: memory that grows in steps, in Java.

import java.io.DataInputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

final class Growth {
  // Keeps all it reads, in direct buffers of `step` bytes; each is zeroed when it is made, as an arena's chunks are.
  static void stepHoarder(SocketChannel socket, int step) throws Exception {
    List<ByteBuffer> kept = new ArrayList<>();
    ByteBuffer chunk = ByteBuffer.allocateDirect(65536);
    for (ByteBuffer block = ByteBuffer.allocateDirect(step); socket.read(chunk.clear()) >= 0; block.put(chunk.flip()))
      if (block.remaining() < chunk.position()) {
        kept.add(block);
        block = ByteBuffer.allocateDirect(step);
      }
  }

  // Puts records of 1000 bytes into a map, each as a string; the heap grows by regions as they fill.
  static void fillsMap(SocketChannel socket) throws Exception {
    Map<Integer, String> kept = new HashMap<>();
    DataInputStream input = new DataInputStream(Channels.newInputStream(socket));
    byte[] record = new byte[1000];
    for (;;) {
      input.readFully(record);
      kept.put(kept.size(), new String(record, "ISO-8859-1"));
    }
  }

  public static void main(String[] words) throws Exception {
    SocketChannel socket = SocketChannel.open(
        new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(words[1])));
    System.out.println("ready");
    if (words[0].equals("step-hoarder"))
      stepHoarder(socket, Integer.parseInt(words[2]));
    else
      fillsMap(socket);
  }
}

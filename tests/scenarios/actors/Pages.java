// SPDX-License-Identifier: MIT
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadLocalRandom;

/** A server of small pages, each of which leaves 50 to 100 kB of garbage: java Pages PORT */
public class Pages {
  public static void main(String[] words) throws IOException {
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(words[0])), 128);
    server.setExecutor(Executors.newFixedThreadPool(8));
    server.createContext("/", exchange -> {
      byte[] page = page(ThreadLocalRandom.current().nextInt(500, 1000));
      exchange.sendResponseHeaders(200, page.length);
      exchange.getResponseBody().write(page);
      exchange.close();
    });
    server.start();
  }

  private static byte[] page(int count) {
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < count; i++) lines.add("line " + ThreadLocalRandom.current().nextInt());
    Collections.sort(lines);
    String text = String.join("\n", lines);
    return (text.substring(text.length() - 200) + "\nok\n").getBytes(StandardCharsets.UTF_8);
  }
}

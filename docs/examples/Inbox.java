import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

/**
 * Takes messages back from Java: each line of standard input is a row of input as JSON, and becomes one entry of recallq:inbox.
 *
 * <pre>
 * java Inbox.java [--batch NAME] [--urgent] &lt; rows.ndjson
 *
 * echo '{"provider":"jiguang","message_id":"18100287000000001","sent_at":"'"$(date -u +%FT%TZ)"'"}' | java Inbox.java --urgent
 * </pre>
 *
 * Redis is RECALLQ_REDIS_URL: redis://user:password@host:port, or rediss:// for TLS. The user may be limited to
 * ACL SETUSER push on &gt;PASSWORD ~recallq:inbox -@all +xadd
 *
 * <p>It prints the id of each entry. An entry that is refused later is on the stream recallq:outcomes under that id. After an
 * error, run it again with the same input: a recall that comes twice is one recall.
 *
 * <p>It needs JDK 17 and nothing else. With Jedis the whole of it is jedis.xadd("recallq:inbox", StreamEntryID.NEW_ENTRY,
 * Map.of("row", row)).
 *
 * <p>An Inbox is a connection to Redis, for one thread at a time.
 */
public final class Inbox implements AutoCloseable {
    private static final int AT_A_TIME = 500; // rows that are sent before their answers are read
    private static final int TIMEOUT_MS = 10_000;

    private final Socket socket;
    private final InputStream in;
    private final OutputStream out;

    public Inbox(String url) throws IOException {
        URI uri = URI.create(url);
        boolean tls = "rediss".equals(uri.getScheme());
        if (uri.getHost() == null || !tls && !"redis".equals(uri.getScheme())) {
            throw new IllegalArgumentException("RECALLQ_REDIS_URL is not of the form redis://user:password@host:port");
        }
        int port = uri.getPort() < 0 ? 6379 : uri.getPort();
        Socket plain = new Socket();
        plain.connect(new InetSocketAddress(uri.getHost(), port), TIMEOUT_MS);
        socket = tls ? secured(plain, uri.getHost(), port) : plain;
        socket.setSoTimeout(TIMEOUT_MS);
        in = new BufferedInputStream(socket.getInputStream());
        out = new BufferedOutputStream(socket.getOutputStream());
        String login = uri.getRawUserInfo();
        if (login != null && login.contains(":")) {
            String user = decode(login.substring(0, login.indexOf(':')));
            String password = decode(login.substring(login.indexOf(':') + 1));
            if (user.isEmpty()) {
                send("AUTH", password);
            } else {
                send("AUTH", user, password);
            }
            out.flush();
            answer();
        }
    }

    /** Adds rows, each a row of input as JSON, and returns their ids. Once it returns, all are accepted. */
    public List<String> add(List<String> rows, String batch, String priority) throws IOException {
        for (String row : rows) {
            send("XADD", "recallq:inbox", "*", "row", row, "batch", batch, "priority", priority);
        }
        out.flush();
        List<String> ids = new ArrayList<>();
        for (int i = 0; i < rows.size(); i++) {
            ids.add(answer());
        }
        return ids;
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }

    /** One command in Redis's protocol: an array of strings, each with its length in bytes. */
    private void send(String... words) throws IOException {
        out.write(("*" + words.length + "\r\n").getBytes(StandardCharsets.US_ASCII));
        for (String word : words) {
            byte[] bytes = word.getBytes(StandardCharsets.UTF_8);
            out.write(("$" + bytes.length + "\r\n").getBytes(StandardCharsets.US_ASCII));
            out.write(bytes);
            out.write('\r');
            out.write('\n');
        }
    }

    private String answer() throws IOException {
        String line = line();
        String text = line.substring(1);
        switch (line.charAt(0)) {
            case '-':
                throw new IOException("not accepted: " + text);
            case '$':
                return line(); // an id has no line's end in it
            default:
                return text;
        }
    }

    private String line() throws IOException {
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        for (int c = in.read(); c != '\r'; c = in.read()) {
            if (c < 0) {
                throw new EOFException("the connection to Redis broke off");
            }
            line.write(c);
        }
        in.read(); // '\n'
        return line.toString(StandardCharsets.UTF_8);
    }

    private static Socket secured(Socket plain, String host, int port) throws IOException {
        SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        SSLSocket tls = (SSLSocket) factory.createSocket(plain, host, port, true);
        SSLParameters parameters = tls.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS"); // without it Java takes any host's certificate
        tls.setSSLParameters(parameters);
        return tls;
    }

    private static String decode(String text) {
        return URLDecoder.decode(text.replace("+", "%2B"), StandardCharsets.UTF_8);
    }

    public static void main(String[] args) {
        String batch = "";
        String priority = "bulk";
        for (int i = 0; i < args.length; i++) {
            if (args[i].equals("--urgent")) {
                priority = "urgent";
            } else if (args[i].equals("--batch") && i + 1 < args.length) {
                batch = args[++i];
            } else {
                System.err.println("usage: java Inbox.java [--batch NAME] [--urgent] < rows.ndjson");
                System.exit(2);
            }
        }
        String url = System.getenv().getOrDefault("RECALLQ_REDIS_URL", "redis://127.0.0.1:6379");
        try (Inbox inbox = new Inbox(url)) {
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            List<String> rows = new ArrayList<>();
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                if (!line.isBlank()) {
                    rows.add(line.strip());
                }
                if (rows.size() == AT_A_TIME) {
                    inbox.add(rows, batch, priority).forEach(System.out::println);
                    rows.clear();
                }
            }
            inbox.add(rows, batch, priority).forEach(System.out::println);
        } catch (IOException | IllegalArgumentException e) {
            System.err.println("Inbox: " + e.getMessage());
            System.exit(1);
        }
    }
}

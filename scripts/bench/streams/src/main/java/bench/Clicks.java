package bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Comparator;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Branched;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** The benchmark's job on Kafka Streams: parse, check, deduplicate, find the session, produce, count, produce. */
public final class Clicks {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final long GAP = Duration.ofMinutes(30).toMillis();
  private static final long KEPT = GAP + Duration.ofHours(1).toMillis();
  private static final long LONGEST = Duration.ofHours(24).toMillis();
  private static final Duration DAY = Duration.ofHours(24);

  /** A click as parsed; {@code json} is null where it is not valid. */
  private record Click(String eventId, long at, ObjectNode json, byte[] bytes) {}

  private record Session(String id, long start, long last) {}

  public static void main(String[] args) throws Exception {
    String brokers = args[0];
    String run = args[1];
    int threads = Integer.parseInt(args[2]);

    StreamsBuilder builder = new StreamsBuilder();
    builder.addStateStore(Stores.keyValueStoreBuilder(
        Stores.inMemoryKeyValueStore("seen"), Serdes.String(), Serdes.Long()));
    builder.addStateStore(Stores.keyValueStoreBuilder(
        Stores.inMemoryKeyValueStore("sessions"), Serdes.String(), new SessionsSerde()));

    builder.stream("raw", Consumed.with(Serdes.String(), Serdes.ByteArray())
            .withTimestampExtractor((record, previous) -> record.timestamp()))
        .mapValues(Clicks::parse)
        .split()
        .branch((key, click) -> click.json() == null, Branched.withConsumer(refused -> refused
            .mapValues(Click::bytes)
            .to(run + "-dlt", Produced.with(Serdes.String(), Serdes.ByteArray()))))
        .defaultBranch(Branched.withConsumer(valid -> valid
            .processValues(Enrich::new, "seen", "sessions")
            .to(run + "-enriched", Produced.with(Serdes.String(), Serdes.ByteArray()))));

    builder.stream(run + "-enriched", Consumed.with(Serdes.String(), Serdes.ByteArray())
            .withTimestampExtractor(EVENT_TIME))
        .groupByKey(Grouped.with(Serdes.String(), Serdes.ByteArray()))
        .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofMinutes(10)))
        .count(Materialized.<String, Long>as(
                Stores.inMemoryWindowStore("minutes", Duration.ofMinutes(11), Duration.ofMinutes(1), false))
            .withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
        .toStream()
        .map((window, count) -> KeyValue.pair(
            window.key() + "@" + window.window().start(),
            countJson(window.key(), window.window().start(), count)))
        .to(run + "-counts", Produced.with(Serdes.String(), Serdes.ByteArray()));

    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, run);
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, threads);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, args[3]);
    settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    settings.put(StreamsConfig.producerPrefix("acks"), "all");

    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    CountDownLatch done = new CountDownLatch(1);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      streams.close(Duration.ofSeconds(10));
      done.countDown();
    }));
    streams.start();
    done.await();
  }

  private static Click parse(byte[] bytes) {
    try {
      JsonNode node = JSON.readTree(bytes);
      JsonNode id = node.get("eventId");
      JsonNode user = node.get("user");
      JsonNode path = node.get("path");
      JsonNode at = node.get("at");
      if (!(node instanceof ObjectNode json) || id == null || !id.isTextual() || user == null || !user.isTextual()
          || path == null || !path.isTextual() || !path.textValue().startsWith("/") || at == null
          || !at.isIntegralNumber() || at.longValue() < 0) {
        return new Click(null, 0, null, bytes);
      }
      return new Click(id.textValue(), at.longValue(), json, bytes);
    } catch (Exception notJson) {
      return new Click(null, 0, null, bytes);
    }
  }

  /** Event time as in the value, for the count. */
  private static final TimestampExtractor EVENT_TIME = (record, previous) -> {
    try {
      return JSON.readTree((byte[]) record.value()).get("at").longValue();
    } catch (Exception impossible) {
      throw new IllegalStateException(impossible);
    }
  };

  /** Drops repeats, and adds the session's id. */
  private static final class Enrich implements FixedKeyProcessor<String, Click, byte[]> {
    private FixedKeyProcessorContext<String, byte[]> context;
    private KeyValueStore<String, Long> seen;
    private KeyValueStore<String, List<Session>> sessions;
    private long streamTime = Long.MIN_VALUE;

    @Override
    public void init(FixedKeyProcessorContext<String, byte[]> context) {
      this.context = context;
      this.seen = context.getStateStore("seen");
      this.sessions = context.getStateStore("sessions");
      context.schedule(Duration.ofMinutes(1), PunctuationType.WALL_CLOCK_TIME, now -> {
        try (var all = seen.all()) {
          while (all.hasNext()) {
            var entry = all.next();
            if (entry.value < now - DAY.toMillis()) seen.delete(entry.key);
          }
        }
      });
    }

    @Override
    public void process(FixedKeyRecord<String, Click> record) {
      Click click = record.value();
      streamTime = Math.max(streamTime, click.at());
      if (seen.get(click.eventId()) != null) return;
      seen.put(click.eventId(), record.timestamp());
      String id = session(record.key(), click);
      if (id == null) return;
      try {
        context.forward(record.withValue(JSON.writeValueAsBytes(click.json().put("session", id))));
      } catch (Exception impossible) {
        throw new IllegalStateException(impossible);
      }
    }

    private String session(String key, Click click) {
      long at = click.at();
      List<Session> known = sessions.get(key);
      List<Session> live = new ArrayList<>();
      Session joined = null;
      if (known != null) {
        for (Session one : known) {
          if (one.last() < streamTime - KEPT) continue;
          boolean takes = at >= one.start() - GAP && at <= one.last() + GAP
              && Math.max(one.last(), at) - Math.min(one.start(), at) <= LONGEST;
          if (joined == null && takes) joined = one;
          else live.add(one);
        }
      }
      if (joined == null && at < streamTime - KEPT) return null;
      Session session = joined == null
          ? new Session(sessionId(key, click.eventId()), at, at)
          : new Session(joined.id(), Math.min(joined.start(), at), Math.max(joined.last(), at));
      live.add(session);
      live.sort(Comparator.comparingLong(Session::start));
      sessions.put(key, live);
      return session.id();
    }
  }

  private static String sessionId(String key, String eventId) {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      digest.update((key + "\0" + eventId).getBytes(StandardCharsets.UTF_8));
      return Base64.getUrlEncoder().withoutPadding().encodeToString(digest.digest()).substring(0, 22);
    } catch (Exception impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  private static byte[] countJson(String user, long minute, long clicks) {
    try {
      return JSON.writeValueAsBytes(JSON.createObjectNode().put("user", user).put("minute", minute).put("clicks", clicks));
    } catch (Exception impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  private static final class SessionsSerde implements Serde<List<Session>> {
    @Override
    public Serializer<List<Session>> serializer() {
      return (topic, sessions) -> {
        if (sessions == null) return null;
        ByteBuffer buffer = ByteBuffer.allocate(sessions.size() * 38);
        for (Session one : sessions) {
          buffer.put(one.id().getBytes(StandardCharsets.ISO_8859_1)).putLong(one.start()).putLong(one.last());
        }
        return buffer.array();
      };
    }

    @Override
    public Deserializer<List<Session>> deserializer() {
      return (topic, bytes) -> {
        if (bytes == null) return null;
        List<Session> sessions = new ArrayList<>(bytes.length / 38);
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        byte[] id = new byte[22];
        while (buffer.hasRemaining()) {
          buffer.get(id);
          sessions.add(new Session(new String(id, StandardCharsets.ISO_8859_1), buffer.getLong(), buffer.getLong()));
        }
        return sessions;
      };
    }
  }
}

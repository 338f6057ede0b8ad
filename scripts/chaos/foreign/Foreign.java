import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListOffsetsResult;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * What Kafka's own client sees of a cluster, as lines on standard output.
 *
 * watch BROKERS MILLIS TOPIC,... GROUP,...   until standard input ends: where topics end and groups stand, that often
 * read BROKERS TOPIC FIELD,...               committed records: partition, offset, headers' reason, and fields of the JSON
 * write BROKERS TOPIC                        the lines of standard input: a key, a tab, and a value as text; answers the
 *                                            offset of each, or "unknown"
 */
public final class Foreign {
  private static final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  public static void main(String[] args) throws Exception {
    switch (args[0]) {
      case "watch" -> watch(args[1], Integer.parseInt(args[2]), List.of(args[3].split(",")), List.of(args[4].split(",")));
      case "read" -> read(args[1], args[2], args[3].split(","));
      case "write" -> write(args[1], args[2]);
      default -> throw new IllegalArgumentException(args[0]);
    }
  }

  private static Admin admin(String brokers) {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", brokers);
    settings.put("client.id", "chaos-watch");
    // Brokers are killed and frozen here: what does not answer soon is asked again.
    settings.put("request.timeout.ms", 1_000);
    settings.put("default.api.timeout.ms", 1_500);
    settings.put("reconnect.backoff.max.ms", 200);
    settings.put("socket.connection.setup.timeout.ms", 500);
    settings.put("socket.connection.setup.timeout.max.ms", 1_000);
    settings.put("metadata.max.age.ms", 1_000);
    return Admin.create(settings);
  }

  private interface Look {
    void now() throws Exception;
  }

  private static void repeat(int millis, Look look) {
    Thread thread = new Thread(() -> {
      while (true) {
        long began = System.currentTimeMillis();
        try {
          look.now();
        } catch (Exception away) {
          // Nothing is known until the next time.
        }
        try {
          Thread.sleep(Math.max(10, began + millis - System.currentTimeMillis()));
        } catch (InterruptedException ended) {
          return;
        }
      }
    });
    thread.setDaemon(true);
    thread.start();
  }

  private static void watch(String brokers, int millis, List<String> topics, List<String> groups) throws IOException {
    Admin admin = admin(brokers);
    Map<String, TopicDescription> known = new HashMap<>();
    repeat(1_000, () -> {
      Map<String, TopicDescription> found = admin.describeTopics(topics).allTopicNames().get();
      int away = 0;
      for (TopicDescription topic : found.values())
        for (TopicPartitionInfo one : topic.partitions()) away += one.replicas().size() - one.isr().size();
      synchronized (known) {
        known.putAll(found);
      }
      say("away " + away);
    });
    repeat(millis, () -> {
      Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
      synchronized (known) {
        for (TopicDescription topic : known.values())
          for (TopicPartitionInfo one : topic.partitions())
            asked.put(new TopicPartition(topic.name(), one.partition()), OffsetSpec.latest());
      }
      if (asked.isEmpty()) return;
      ListOffsetsResult result = admin.listOffsets(asked);
      StringBuilder line = new StringBuilder("ends");
      for (TopicPartition one : asked.keySet()) {
        try {
          line.append(' ').append(one.topic()).append('/').append(one.partition()).append('=')
              .append(result.partitionResult(one).get(1_500, TimeUnit.MILLISECONDS).offset());
        } catch (ExecutionException away) {
          // Its leader does not answer.
        }
      }
      say(line.toString());
    });
    for (String group : groups) repeat(millis, () -> {
      StringBuilder line = new StringBuilder("group ").append(group);
      Map<TopicPartition, OffsetAndMetadata> positions = admin
          .listConsumerGroupOffsets(Map.of(group, new ListConsumerGroupOffsetsSpec()))
          .partitionsToOffsetAndMetadata(group).get();
      for (Map.Entry<TopicPartition, OffsetAndMetadata> one : positions.entrySet()) {
        if (one.getValue() == null) continue;
        line.append(' ').append(one.getKey().topic()).append('/').append(one.getKey().partition()).append('=')
            .append(one.getValue().offset());
      }
      say(line.toString());
    });
    while (System.in.read() >= 0) continue;
    System.exit(0);
  }

  private static synchronized void say(String line) {
    out.println(System.currentTimeMillis() + " " + line);
  }

  private static void read(String brokers, String topic, String[] fields) throws IOException {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", brokers);
    settings.put("isolation.level", "read_committed");
    settings.put("enable.auto.commit", false);
    settings.put("auto.offset.reset", "earliest");
    settings.put("fetch.max.bytes", 16_000_000);
    settings.put("max.partition.fetch.bytes", 4_000_000);
    settings.put("max.poll.records", 20_000);
    settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
    settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
    byte[][] wanted = new byte[fields.length][];
    for (int i = 0; i < fields.length; i++) wanted[i] = ("\"" + fields[i] + "\":").getBytes(StandardCharsets.UTF_8);
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings);
        BufferedWriter lines = new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8), 1 << 20)) {
      List<TopicPartition> partitions = new ArrayList<>();
      consumer.partitionsFor(topic).forEach((one) -> partitions.add(new TopicPartition(topic, one.partition())));
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      Map<TopicPartition, Long> ends = new TreeMap<>((a, b) -> Integer.compare(a.partition(), b.partition()));
      ends.putAll(consumer.endOffsets(partitions));
      for (Map.Entry<TopicPartition, Long> end : ends.entrySet())
        lines.write("end\t" + end.getKey().partition() + "\t" + end.getValue() + "\n");
      StringBuilder line = new StringBuilder();
      while (!ends.isEmpty()) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
          line.setLength(0);
          line.append(record.partition()).append('\t').append(record.offset()).append('\t');
          Header reason = record.headers().lastHeader("millrace-reason");
          if (reason != null) line.append(new String(reason.value(), StandardCharsets.UTF_8));
          for (byte[] name : wanted) line.append('\t').append(field(record.value(), name));
          lines.write(line.append('\n').toString());
        }
        ends.entrySet().removeIf((end) -> consumer.position(end.getKey()) >= end.getValue());
      }
    }
  }

  /** What stands behind the first such name, as it is written; of text what is between its quotes. */
  private static String field(byte[] json, byte[] name) {
    if (json == null) return "";
    for (int at = 0; at + name.length < json.length; at++) {
      if (json[at] != '"') continue;
      int i = 0;
      while (i < name.length && json[at + i] == name[i]) i++;
      if (i < name.length) continue;
      int start = at + i;
      boolean isText = json[start] == '"';
      if (isText) start++;
      int end = start;
      while (end < json.length && (isText ? json[end] != '"' : json[end] != ',' && json[end] != '}')) end++;
      return new String(json, start, end - start, StandardCharsets.UTF_8);
    }
    return "";
  }

  private static void write(String brokers, String topic) throws Exception {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", brokers);
    settings.put("acks", "all");
    settings.put("enable.idempotence", true);
    settings.put("delivery.timeout.ms", 300_000);
    settings.put("max.block.ms", 300_000);
    settings.put("key.serializer", ByteArraySerializer.class.getName());
    settings.put("value.serializer", ByteArraySerializer.class.getName());
    try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        int tab = line.indexOf('\t');
        byte[] key = line.substring(0, tab).getBytes(StandardCharsets.UTF_8);
        byte[] value = line.substring(tab + 1).getBytes(StandardCharsets.UTF_8);
        try {
          out.println(producer.send(new ProducerRecord<>(topic, key, value)).get().offset());
        } catch (ExecutionException | RuntimeException givenUp) {
          out.println("unknown");
        }
      }
    }
  }
}

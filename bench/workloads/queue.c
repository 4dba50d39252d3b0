/* A message queue: a window of live messages in which each push replaces the oldest one.  Measures how long a single push
 * can take: allocation, collections, and whatever the engine makes the allocating thread do for it. */
#include <string.h>

#include "engine.h"
#include "worker/histogram.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"

static bool scanned;
static size_t bytes;
static long window_length;
static unsigned char **window;

static void push(long number) {
  unsigned char **slot = &window[number % window_length];
  unsigned char *message = scanned ? engine_alloc(bytes) : engine_alloc_data(bytes);
  memset(message, (int)(number & 0xff), bytes);
  engine_free(*slot);
  engine_store(slot, message);
}

/* Every message of the window must hold what was written last: adds up and checks its first and last bytes. */
static double verify(long messages) {
  double sum = 0;
  for (long i = messages > window_length ? messages - window_length : 0; i < messages; i++) {
    const unsigned char *message = window[i % window_length];
    if (message[0] != (i & 0xff) || message[bytes - 1] != (i & 0xff)) workload_fail("queue: a message is damaged");
    sum += message[0];
  }
  return sum;
}

static void run(struct workload *self) {
  scanned = workload_choice(self, "kind", "scan", "data");
  bytes = (size_t)workload_number(self, "bytes", 1, 1L << 30);
  window_length = workload_number(self, "window", 1, 1L << 32);
  long messages = workload_number(self, "messages", 1, 1L << 40);
  struct histogram *pushes = histogram_new();
  window = engine_alloc((size_t)window_length * sizeof *window);

  measure_start();
  for (long i = 0; i < messages; i++) {
    uint64_t start_ns = measure_clock_ns();
    push(i);
    histogram_add(pushes, measure_clock_ns() - start_ns);
  }
  measure_end();

  histogram_report(pushes);
  result_number("check", verify(messages));
}

struct workload workload_queue = {
    .name = "queue",
    .about = "delay of a push to a queue of live messages; kind=scan|data",
    .parameters = {{"kind", "data"}, {"bytes", "1024"}, {"window", "200000"}, {"messages", "1000000"}},
    .run = run,
};

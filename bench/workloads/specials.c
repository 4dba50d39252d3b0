/* What the collector remembers of single objects: registers one thing of a kind for each of many objects, drops the objects
 * round by round, and lets the collector find out and the program be called.  Measures registering and the rest apart: how
 * many a second of each, and the pauses. */
#include <string.h>

#include "engine.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"

static long finalized;

static void on_finalized(void *object, void *argument) {
  (void)object;
  (void)argument;
  finalized++;
}

/* A window of living objects; each round replaces all of them. */
static void **window;
static void **links; /* in an object without pointers */

static void add_finalizer(long i) { engine_finalizer(window[i], on_finalized); }

static void add_link(long i) {
  links[i] = (void *)~(uintptr_t)window[i];
  engine_weak_link(&links[i], window[i]);
}

static void add_both(long i) {
  add_finalizer(i);
  add_link(i);
}

static void (*choose(const char *what))(long) {
  if (strcmp(what, "finalizers") == 0) return add_finalizer;
  if (strcmp(what, "links") == 0) return add_link;
  if (strcmp(what, "both") == 0) return add_both;
  workload_fail("specials: what=finalizers|links|both");
}

static long count_cleared(long count) {
  long cleared = 0;
  for (long i = 0; i < count; i++) cleared += links[i] == NULL;
  return cleared;
}

static void run(struct workload *self) {
  void (*add)(long) = choose(workload_text(self, "what"));
  long count = workload_number(self, "count", 1, 1L << 28), rounds = workload_number(self, "rounds", 1, 1L << 20);
  size_t bytes = (size_t)workload_number(self, "bytes", 16, 1L << 20);
  engine_store(&window, engine_alloc((size_t)count * sizeof *window));
  engine_store(&links, engine_alloc_data((size_t)count * sizeof *links));
  memset(links, 0xff, (size_t)count * sizeof *links);
  uint64_t adding_ns = 0, settling_ns = 0;
  long cleared = 0;

  measure_start();
  for (long round = 0; round < rounds; round++) {
    engine_disable();
    for (long i = 0; i < count; i++) engine_store(&window[i], engine_alloc(bytes));
    uint64_t start_ns = measure_clock_ns();
    for (long i = 0; i < count; i++) add(i);
    adding_ns += measure_clock_ns() - start_ns;
    engine_enable();
    for (long i = 0; i < count; i++) engine_store(&window[i], NULL);
    start_ns = measure_clock_ns();
    engine_collect();
    engine_run_finalizers();
    settling_ns += measure_clock_ns() - start_ns;
    cleared += count_cleared(count);
  }
  measure_end();

  double all = (double)count * (double)rounds;
  result_number("added_per_s", all / ((double)adding_ns * 1e-9));
  result_number("settled_per_s", all / ((double)settling_ns * 1e-9));
  /* A few may be kept by stale words, differently under each engine. */
  long settled = add == add_link ? cleared : finalized;
  if (settled < (long)(all * 0.99)) workload_fail("specials: what died was not noticed");
  result_number("check", all);
}

struct workload workload_specials = {
    .name = "specials",
    .about = "registering and settling; what=finalizers|links|both",
    .parameters = {{"what", "finalizers"}, {"count", "100000"}, {"rounds", "10"}, {"bytes", "48"}},
    .collector_only = true,
    .run = run,
};

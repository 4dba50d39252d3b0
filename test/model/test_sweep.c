/* Sweeping by all who sweep, at once, through many generations.
 *
 * Once.  At each stop for marking every page that was in use at the end of the last mark phase must have been swept once:
 * the figures of all sweepers add up to that, no more and no less.  Debug builds assert the same of each span.  Threads
 * allocate small and large objects, free them while others sweep their spans, take steps, reclaim and collect.
 *
 * In time.  Where allocation itself sweeps little (one size class of many), debt must have swept the rest by the next
 * cycle; where the program does nothing, the background thread.
 *
 * Guards against: a large span that counted as swept before it was on its list, so that who freed its object took it off
 * none. */
#include <pthread.h>

#include "base/atomic.h"
#include "gc/background.h"
#include "gc/sweep.h"
#include "page/pageheap.h"
#include "support/heap_test.h"

enum { THREADS = 3, PLACES = 400 };

/* ---- once ---- */

static size_t generations, next_cycle_pages, begun_pages, debt_pages, background_pages; /* written by who stops */

static void on_event(enum midden_event event, void *argument) {
  (void)argument;
  if (event != MIDDEN_EVENT_STOPPED) return;
  struct sweep_stats stats;
  sweep_read_stats(&stats);
  size_t swept = 0;
  for (size_t i = 0; i < SWEEPER_COUNT; i++) swept += stats.swept_pages[i];
  REQUIRE(swept == stats.begun_pages, "%zu pages swept of %zu", swept, stats.begun_pages);
  REQUIRE(stats.freed_pages <= swept, "%zu pages freed of %zu", stats.freed_pages, swept);
  generations++;
  begun_pages += stats.begun_pages;
  next_cycle_pages += stats.swept_pages[SWEEPER_NEXT_CYCLE];
  debt_pages += stats.swept_pages[SWEEPER_DEBT];
  background_pages += stats.swept_pages[SWEEPER_BACKGROUND];
}

static char *places[THREADS][PLACES]; /* roots; the first and last byte of each object is its place */

static void replace(struct rng *rng, char **place) {
  unsigned char stamp = (unsigned char)((size_t)place / sizeof *place % 251 + 1);
  if (*place != NULL) {
    size_t bytes = midden_size(*place);
    REQUIRE((unsigned char)(*place)[0] == stamp && (unsigned char)(*place)[bytes - 1] == stamp, "an object is gone");
    if (rng_one_in(rng, 2)) midden_free(*place);
  }
  *place = NULL;
  size_t bytes = rng_one_in(rng, 4) ? 40000 + rng_size(rng, 200000) : rng_size(rng, 8192);
  char *object = rng_one_in(rng, 2) ? midden_alloc(bytes) : midden_alloc_data(bytes < 16 ? 16 : bytes);
  size_t usable = midden_size(object);
  object[0] = object[usable - 1] = (char)stamp;
  *place = object;
}

static void *hammer(void *argument) {
  size_t me = (size_t)(uintptr_t)argument, steps = test_steps(6000);
  struct rng rng = {test_seed_value + me};
  struct mutator *self = (midden_thread_attach(), mutator_self());
  for (size_t i = 0; i < steps; i++) {
    replace(&rng, &places[me][rng_below(&rng, PLACES)]);
    switch (rng_below(&rng, 60)) {
      case 0:
        if (rng_one_in(&rng, 3)) midden_collect();
        break;
      case 1:
        sweep_finish(self);
        break;
      case 2:
        sweep_pay(self, SIZE_MAX);
        break;
      case 3:
        mutator_enter(self);
        sweep_reclaim(1 + rng_below(&rng, 100));
        mutator_leave(self);
        break;
      case 4:
        sweep_large(self);
        break;
      case 5:
        midden_set_percent(50 + (int)rng_below(&rng, 100));
        break;
      default:
        break;
    }
  }
  return NULL;
}

static void once(void) {
  pthread_t threads[THREADS];
  for (size_t i = 0; i < THREADS; i++)
    REQUIRE(pthread_create(&threads[i], NULL, hammer, (void *)(uintptr_t)i) == 0, "no thread");
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  midden_set_percent(100);
  REQUIRE(generations > 20, "%zu generations only", generations);
  memset(places, 0, sizeof(places));
}

/* ---- in time ---- */

static void **live; /* a root */

/* A live heap of many size classes and full spans: allocating one class sweeps little of it. */
static void build(size_t count) {
  live = midden_alloc(count * sizeof *live);
  for (size_t i = 0; i < count; i++) live[i] = midden_alloc(16 + i % 100 * 16);
}

/* Half of the heap is garbage of that one class, which allocation sweeps. */
static void debt_sweeps_in_time(void) {
  build(40000);
  midden_collect();
  begun_pages = next_cycle_pages = debt_pages = background_pages = 0;
  size_t before = generations;
  while (generations < before + 4) memset(midden_alloc_data(3000), 1, 3000);
  REQUIRE(debt_pages + background_pages > begun_pages / 4, "%zu and %zu of %zu pages", debt_pages, background_pages,
          begun_pages);
  REQUIRE(next_cycle_pages <= begun_pages / 50, "%zu of %zu pages were left", next_cycle_pages, begun_pages);
}

static int debt_alone(void *argument) {
  (void)argument;
  struct midden_options options = {.size = sizeof options, .background = -1};
  REQUIRE(midden_init(&options) == 0, "no start");
  midden_set_event_callback(on_event, NULL);
  debt_sweeps_in_time();
  REQUIRE(!background_is_started() && background_pages == 0 && debt_pages != 0, "the background swept");
  return 0;
}

static void background_sweeps_an_idle_heap(void) {
  midden_collect();
  struct timespec moment = {.tv_nsec = 5000000};
  for (unsigned i = 0; sweep_left_pages() != 0; i++) {
    REQUIRE(i < 2000, "%zu pages left after 10 s", sweep_left_pages());
    nanosleep(&moment, NULL);
  }
  struct sweep_stats stats;
  sweep_read_stats(&stats);
  REQUIRE(stats.swept_pages[SWEEPER_BACKGROUND] > stats.begun_pages / 2, "%zu of %zu pages",
          stats.swept_pages[SWEEPER_BACKGROUND], stats.begun_pages);
}

int main(void) {
  setenv("MIDDEN_DEBUG", "notools", 0); /* guarded objects are all swept at once */
  test_start("test_sweep");
  alarm(240);
  test_child_succeeds("debt", debt_alone, NULL, 60); /* before this process has a heap */
  struct midden_options options = {.size = sizeof options, .debug = MIDDEN_DEBUG_VERIFY};
  REQUIRE(midden_init(&options) == 0, "no start");
  midden_set_event_callback(on_event, NULL);
  once();
  debt_sweeps_in_time();
  background_sweeps_an_idle_heap();
  return 0;
}

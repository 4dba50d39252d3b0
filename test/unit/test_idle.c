/* The collection when the program stops allocating, in a cycle beside the program: nobody waits for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/atomic.h"
#include "gc/background.h"
#include "gc/driver.h"
#include "support/heap_test.h"

enum { IDLE_MS = 100, LIST_NODES = 200000, PATIENCE_MS = 10000 };

static struct {
  uint32_t task_calls;       /* atomic */
  uint32_t cycles;           /* atomic; that were looked at */
  bool looks;                /* atomic */
  bool task_ran, was_urgent; /* while the last one of these ran; atomic */
} seen;

static uint64_t task(struct mutator *self, uint64_t now_ns) {
  (void)self, (void)now_ns;
  atomic_add_acq_rel(&seen.task_calls, 1u);
  return UINT64_MAX;
}

/* In the middle of a cycle, by the thread that runs it. */
static void look(enum midden_event event, void *argument) {
  (void)argument;
  if (event != MIDDEN_EVENT_MARK_START || !atomic_load_acquire(&seen.looks)) return;
  uint32_t before = atomic_load_acquire(&seen.task_calls);
  background_poke();
  for (unsigned ms = 0; ms < PATIENCE_MS && atomic_load_acquire(&seen.task_calls) == before; ms++) test_sleep_ms(1);
  atomic_store_relaxed(&seen.task_ran, atomic_load_acquire(&seen.task_calls) != before);
  atomic_store_relaxed(&seen.was_urgent, driver_is_urgent());
  atomic_add_acq_rel(&seen.cycles, 1u);
}

static void *list; /* static data: a root */

static NOINLINE_TEST void allocate(void) {
  list = NULL;
  for (unsigned i = 0; i < LIST_NODES; i++) {
    void **node = midden_alloc(64);
    REQUIRE(node != NULL, "out of memory");
    *node = list;
    list = node;
  }
}

static void await_idle_collection(uint64_t wanted) {
  for (unsigned ms = 0; ms < PATIENCE_MS && test_stats().collections_idle < wanted; ms++) test_sleep_ms(1);
  REQUIRE(test_stats().collections_idle == wanted, "%u idle collections instead of %u",
          (unsigned)test_stats().collections_idle, (unsigned)wanted);
}

static void the_background_thread_goes_on_with_its_work(void **state) {
  (void)state;
  uint64_t wanted = test_stats().collections_idle + 1;
  midden_set_event_callback(look, NULL);
  allocate();
  midden_collect(); /* from now on the background thread looks */
  allocate();
  atomic_store_release(&seen.looks, true);
  await_idle_collection(wanted);
  atomic_store_release(&seen.looks, false);
  midden_set_event_callback(NULL, NULL);
  REQUIRE(atomic_load_acquire(&seen.cycles) == 1, "%u cycles", atomic_load_relaxed(&seen.cycles));
  REQUIRE(atomic_load_relaxed(&seen.task_ran), "the background thread waits for the cycle");
  REQUIRE(!atomic_load_relaxed(&seen.was_urgent), "the cycle is in a hurry");
}

/* What follows an idle collection is done when the driver says that it has run: then the program is known to rest. */
static void one_is_enough(void **state) {
  (void)state;
  uint64_t before = test_stats().collections_idle;
  allocate();
  await_idle_collection(before + 1);
  test_sleep_ms(5 * IDLE_MS);
  REQUIRE(test_stats().collections_idle == before + 1, "collected again for nothing");
  allocate();
  await_idle_collection(before + 2);
}

static struct {
  pthread_t thread;
  bool asks; /* atomic; the thread is about to collect */
  bool done;
  uint32_t idle_request;
} other;

static void *collect_there(void *argument) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  atomic_store_release(&other.asks, true);
  midden_collect();
  midden_thread_detach();
  return argument;
}

/* While one cycle runs a thread asks for the next, and then the background thread does. */
static void ask_for_both(enum midden_event event, void *argument) {
  (void)argument;
  if (event != MIDDEN_EVENT_MARK_START || other.done) return;
  other.done = true;
  REQUIRE(pthread_create(&other.thread, NULL, collect_there, NULL) == 0, "pthread_create");
  while (!atomic_load_acquire(&other.asks)) test_sleep_ms(1);
  test_sleep_ms(50);
  REQUIRE(driver_ask_idle(&other.idle_request), "no driver");
}

static void an_idle_request_takes_no_other_ones_place(void **state) {
  (void)state;
  allocate();
  midden_set_event_callback(ask_for_both, NULL);
  uint64_t before = test_stats().collections_forced;
  midden_collect();
  REQUIRE(pthread_join(other.thread, NULL) == 0, "pthread_join");
  midden_set_event_callback(NULL, NULL);
  for (unsigned ms = 0; ms < PATIENCE_MS && !driver_has_served(other.idle_request); ms++) test_sleep_ms(1);
  REQUIRE(driver_has_served(other.idle_request), "the idle request is forgotten");
  REQUIRE(test_stats().collections_forced == before + 2, "%u forced collections instead of 2",
          (unsigned)(test_stats().collections_forced - before));
}

int main(void) {
  background_register(task);
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_BARRIER, .idle_collect_ms = IDLE_MS, .min_heap_bytes = 1 << 30};
  REQUIRE(midden_init(&options) == 0, "no start");
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  alarm(100); /* a hang is a failure too */
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_background_thread_goes_on_with_its_work),
                                     cmocka_unit_test(one_is_enough),
                                     cmocka_unit_test(an_idle_request_takes_no_other_ones_place)};
  return test_run_group(tests);
}

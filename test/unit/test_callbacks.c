/* A callback is changed while others collect: each gets the argument that was set with it.
 *
 * Finalizers that the dispatcher runs have as much stack as in a thread of the program. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "support/heap_test.h"

enum { COLLECTIONS = 2000 };

static int first, second;      /* arguments; their addresses */
static bool done;              /* atomic */
static size_t calls, mistaken; /* atomic */

static void note(bool is_right) {
  atomic_add_relaxed(&calls, (size_t)1);
  if (!is_right) atomic_add_relaxed(&mistaken, (size_t)1);
}

static void roots_first(struct midden_tracer *tracer, void *argument) { (void)tracer, note(argument == &first); }
static void roots_second(struct midden_tracer *tracer, void *argument) { (void)tracer, note(argument == &second); }
static void event_first(enum midden_event event, void *argument) { (void)event, note(argument == &first); }
static void event_second(enum midden_event event, void *argument) { (void)event, note(argument == &second); }
static void ready_first(void *argument) { note(argument == &first); }
static void ready_second(void *argument) { note(argument == &second); }

static void set_roots(bool odd) { midden_set_root_callback(odd ? roots_second : roots_first, odd ? &second : &first); }

static void set_event(bool odd) { midden_set_event_callback(odd ? event_second : event_first, odd ? &second : &first); }

static void set_ready(bool odd) {
  midden_set_finalizer_notify(odd ? ready_second : ready_first, odd ? &second : &first);
}

static void *change(void *set) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  for (size_t i = 0; !atomic_load_acquire(&done); i++) (*(void (**)(bool odd))set)(i % 2 != 0);
  return NULL;
}

static void no_finalizer(void *object, void *argument) { (void)object, (void)argument; }

NOINLINE_TEST static void drop_finalizable(void) {
  midden_finalizer_set(midden_alloc(32), no_finalizer, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL);
}

static void each_has_its_argument(void (*set)(bool odd)) {
  pthread_t thread;
  atomic_store_release(&done, false);
  calls = mistaken = 0;
  REQUIRE(pthread_create(&thread, NULL, change, &set) == 0, "pthread_create");
  for (int i = 0; i < COLLECTIONS; i++) {
    drop_finalizable();
    test_collect_clean();
  }
  atomic_store_release(&done, true);
  pthread_join(thread, NULL);
  assert_true(calls != 0);
  assert_int_equal(mistaken, 0);
}

static void that_of_roots(void **state) {
  (void)state;
  each_has_its_argument(set_roots);
}

static void that_of_events(void **state) {
  (void)state;
  each_has_its_argument(set_event);
}

static void that_of_finalizers(void **state) {
  (void)state;
  each_has_its_argument(set_ready);
}

enum { DEEP_BYTES = 1 << 20 };

static bool went_deep; /* atomic */

static void go_deep(void *object, void *argument) {
  volatile char bytes[DEEP_BYTES];
  (void)object, (void)argument;
  for (size_t i = 0; i < DEEP_BYTES; i += 1024) bytes[i] = 1;
  atomic_store_release(&went_deep, bytes[0] != 0);
}

NOINLINE_TEST static void drop_deep(void) {
  midden_finalizer_set(midden_alloc(32), go_deep, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL);
}

static void in_the_dispatcher(void **state) {
  (void)state;
  REQUIRE(midden_dispatcher_start() == 0, "midden_dispatcher_start");
  drop_deep();
  for (int i = 0; i < 5000 && !atomic_load_acquire(&went_deep); i++) { /* its thread may get no processor for long */
    test_collect_clean();
    test_sleep_ms(1);
  }
  assert_int_equal(midden_dispatcher_stop(), 0);
  assert_true(went_deep);
}

int main(void) {
  struct midden_options options = {
      .size = sizeof(options), .mode = MIDDEN_MODE_DIRTY, .idle_collect_ms = -1, .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  alarm(60);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(that_of_roots),
      cmocka_unit_test(that_of_events),
      cmocka_unit_test(that_of_finalizers),
      cmocka_unit_test(in_the_dispatcher),
  };
  return test_run_group(tests);
}

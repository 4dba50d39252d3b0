/* The gate of critical sections: who is inside may go deeper, who has closed it may enter, who waits for it is woken. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "mutator/mutator.h"
#include "support/heap_test.h"

enum { WAIT_MS = 50, SECONDS = 60 };

static bool is_there, has_entered, is_closed; /* atomic */

static void await(const bool *happened) {
  while (!atomic_load_acquire(happened)) atomic_pause();
}

static void close_gate(void) {
  lock_acquire(&mutator_list_lock);
  mutator_close_gate(mutator_self());
}

static void open_gate(void) {
  mutator_open_gate();
  lock_release(&mutator_list_lock);
}

static void *enter(void *unused) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  atomic_store_release(&is_there, true);
  await(&is_closed);
  mutator_enter(mutator_self());
  atomic_store_release(&has_entered, true);
  mutator_leave(mutator_self());
  midden_thread_detach();
  return unused;
}

static void who_waits_is_woken(void **state) {
  (void)state;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, enter, NULL) == 0, "pthread_create");
  await(&is_there);
  close_gate();
  mutator_enter(mutator_self()); /* it is closed for others */
  mutator_leave(mutator_self());
  atomic_store_release(&is_closed, true);
  test_sleep_ms(WAIT_MS);
  bool came_in = atomic_load_acquire(&has_entered);
  open_gate();
  pthread_join(thread, NULL);
  assert_false(came_in);
  assert_true(has_entered);
}

static void *close_and_open(void *unused) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  close_gate();
  atomic_store_release(&is_closed, true);
  open_gate();
  midden_thread_detach();
  return unused;
}

static void who_is_inside_goes_deeper(void **state) {
  (void)state;
  pthread_t thread;
  struct mutator *self = mutator_self();
  atomic_store_release(&is_closed, false);
  mutator_enter(self);
  REQUIRE(pthread_create(&thread, NULL, close_and_open, NULL) == 0, "pthread_create");
  while (atomic_load_acquire(&mutator_gate) == 0) atomic_pause();
  mutator_enter(self);
  mutator_leave(self);
  bool was_closed = atomic_load_acquire(&is_closed);
  mutator_leave(self);
  pthread_join(thread, NULL);
  assert_false(was_closed);
  assert_true(is_closed);
}

int main(void) {
  test_start("unit/gate");
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_STW, .background = -1, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0 && midden_thread_attach() == 0, "midden_init");
  alarm(SECONDS);
  const struct CMUnitTest tests[] = {cmocka_unit_test(who_waits_is_woken), cmocka_unit_test(who_is_inside_goes_deeper)};
  return test_run_group(tests);
}

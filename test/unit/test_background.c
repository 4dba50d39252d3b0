/* The background thread: it starts when poked and not before, calls its task when asked to, collects, holds still while
 * the world is stopped, and outlives neither a fork nor the process.
 *
 * The one task of these tests does what `plan` says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/wait.h"
#include "gc/background.h"
#include "gc/collector.h"
#include "os/os.h"
#include "support/heap_test.h"

static struct {
  uint32_t calls;     /* atomic */
  uint64_t wait_ns;   /* what the task returns; atomic */
  uint64_t called_ns; /* time of the last call; atomic */
  bool collects;      /* atomic */
} plan = {.wait_ns = UINT64_MAX};

static uint64_t task(struct mutator *self, uint64_t now_ns) {
  REQUIRE(self == mutator_self() && self->critical == 0 && self->state == MUTATOR_RUNNING, "called in a wrong state");
  if (atomic_load_acquire(&plan.collects)) collector_collect(COLLECT_FORCED, NULL, NULL);
  atomic_store_release(&plan.called_ns, now_ns);
  atomic_add_acq_rel(&plan.calls, 1u);
  wake_all(&plan.calls);
  return atomic_load_acquire(&plan.wait_ns);
}

static uint32_t calls(void) { return atomic_load_acquire(&plan.calls); }

/* Waits for `more` calls from `before` on; fails after 10 s. */
static void await_calls(uint32_t before, uint32_t more) {
  uint64_t end = os_now_ns() + 10000000000u;
  for (uint32_t seen; (seen = calls()) - before < more; wait_on_word_for(&plan.calls, seen, 100000000))
    REQUIRE(os_now_ns() < end, "%u calls instead of %u", seen - before, more);
}

static void sleep_ms(unsigned ms) {
  static uint32_t never;
  uint64_t end = os_now_ns() + ms * 1000000u;
  for (uint64_t now; (now = os_now_ns()) < end;) wait_on_word_for(&never, 0, end - now);
}

/* Until the task was called for the last time: it wants no more, and no call is under way. */
static void quiet(void) {
  atomic_store_release(&plan.wait_ns, UINT64_MAX);
  uint32_t before;
  do {
    before = calls();
    sleep_ms(10);
  } while (calls() != before);
}

static void starts_when_poked(void **state) {
  (void)state;
  REQUIRE(!background_is_started() && calls() == 0, "started unasked");
  background_poke(); /* only where there is a thread */
  sleep_ms(5);
  REQUIRE(!background_is_started() && calls() == 0, "started by a mere poke");
  os_fail_after(1, false);
  background_wake();
  os_fail_after(0, false);
  REQUIRE(!background_is_started() && calls() == 0, "started though threads are refused");
  background_wake();
  await_calls(0, 1);
  REQUIRE(background_is_started(), "not started");
  REQUIRE(test_stats().threads == 1, "the thread counts as the program's");
  REQUIRE(midden_set_suspend_signal(midden_suspend_signal()) == 0, "the thread counts as the program's");
}

static void calls_as_asked(void **state) {
  (void)state;
  quiet();
  uint32_t before = calls();
  atomic_store_release(&plan.wait_ns, (uint64_t)0);
  sleep_ms(5);
  REQUIRE(calls() == before, "called without a poke");
  background_poke();
  await_calls(before, 1000);
  quiet();
  atomic_store_release(&plan.wait_ns, (uint64_t)20000000);
  before = calls();
  background_poke();
  await_calls(before, 1);
  uint64_t first = atomic_load_acquire(&plan.called_ns);
  await_calls(before, 2);
  REQUIRE(atomic_load_acquire(&plan.called_ns) - first >= 20000000, "called too early");
  quiet();
}

static void holds_still_while_stopped(void **state) {
  (void)state;
  quiet();
  atomic_store_release(&plan.wait_ns, (uint64_t)0);
  for (unsigned i = 0; i < 20; i++) {
    uint32_t before = calls();
    background_poke();
    await_calls(before, 10);
    midden_world_stop();
    uint32_t stopped = calls();
    sleep_ms(2);
    uint32_t still = calls();
    midden_world_resume();
    REQUIRE(stopped == still, "%u calls while the world was stopped", still - stopped);
  }
  quiet();
}

static void collects(void **state) {
  (void)state;
  quiet();
  uint64_t collections = test_stats().collections;
  char *volatile object = midden_alloc(100);
  memset(object, 7, 100);
  atomic_store_release(&plan.collects, true);
  uint32_t before = calls();
  background_poke();
  await_calls(before, 1);
  atomic_store_release(&plan.collects, false);
  REQUIRE(test_stats().collections > collections, "no collection");
  for (size_t i = 0; i < 1000; i++) memset(midden_alloc(100), 1, 100);
  for (size_t i = 0; i < 100; i++) REQUIRE(object[i] == 7, "the object is gone");
}

static int in_child(void *argument) {
  (void)argument;
  uint32_t before = calls();
  if (background_is_started()) return 1;
  background_wake();
  await_calls(before, 1);
  midden_collect();
  return test_stats().threads == 1 ? 0 : 2;
}

static void starts_anew_in_a_child(void **state) {
  (void)state;
  for (unsigned i = 0; i < 20; i++) {
    atomic_store_release(&plan.wait_ns, i % 2 == 0 ? 0 : UINT64_MAX); /* busy or asleep */
    background_poke();
    test_child_succeeds("fork", in_child, NULL, 20);
  }
  quiet();
  uint32_t before = calls();
  background_poke();
  await_calls(before, 1);
}

static int leave_busy(void *argument) {
  (void)argument;
  atomic_store_release(&plan.wait_ns, (uint64_t)0);
  atomic_store_release(&plan.collects, true);
  background_wake();
  await_calls(calls(), 3);
  exit(0); /* with its handlers, the thread busy */
}

static void is_no_obstacle_to_an_end(void **state) {
  (void)state;
  for (unsigned i = 0; i < 10; i++) test_child_succeeds("exit", leave_busy, NULL, 20);
}

int main(void) {
  background_register(task);
  struct midden_options options = {.size = sizeof options};
  REQUIRE(midden_init(&options) == 0, "no start");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(starts_when_poked),         cmocka_unit_test(calls_as_asked),
      cmocka_unit_test(holds_still_while_stopped), cmocka_unit_test(collects),
      cmocka_unit_test(starts_anew_in_a_child),    cmocka_unit_test(is_no_obstacle_to_an_end)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}

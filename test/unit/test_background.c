/* The background thread: it starts when poked and not before, calls its task when asked to, collects, holds still while
 * the world is stopped, and outlives neither a fork nor the process.
 *
 * The one task of these tests does what `plan` says.  On a busy machine a call may be under way for any time: what is
 * asked of the calls holds however late they are. */
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

enum { TIMES = 8 };

static struct {
  uint32_t pokes;            /* by the tests */
  uint32_t calls;            /* atomic */
  uint64_t wait_ns;          /* what the task returns; atomic */
  uint64_t called_ns[TIMES]; /* times of the last calls, by their number; atomic */
  bool collects;             /* atomic */
} plan = {.wait_ns = UINT64_MAX};

static uint64_t task(struct mutator *self, uint64_t now_ns) {
  REQUIRE(self == mutator_self() && self->critical == 0 && self->state == MUTATOR_RUNNING, "called in a wrong state");
  if (atomic_load_acquire(&plan.collects)) collector_collect(COLLECT_FORCED, NULL, NULL);
  atomic_store_release(&plan.called_ns[atomic_load_relaxed(&plan.calls) % TIMES], now_ns);
  atomic_add_acq_rel(&plan.calls, 1u);
  wake_all(&plan.calls);
  return atomic_load_acquire(&plan.wait_ns);
}

static uint32_t calls(void) { return atomic_load_acquire(&plan.calls); }

static void poke(void) {
  plan.pokes++;
  background_poke();
}

static void wake(void) {
  plan.pokes++;
  background_wake();
}

/* Waits for `more` calls from `before` on; fails after 10 s. */
static void await_calls(uint32_t before, uint32_t more) {
  uint64_t end = os_now_ns() + 10000000000u;
  for (uint32_t seen; (seen = calls()) - before < more; wait_on_word_for(&plan.calls, seen, 100000000))
    REQUIRE(os_now_ns() < end, "%u calls instead of %u", seen - before, more);
}

/* The task wants no more.  A call that is under way may still be counted, and be followed by another. */
static void quiet(void) {
  atomic_store_release(&plan.wait_ns, UINT64_MAX);
  uint32_t before;
  do {
    before = calls();
    test_sleep_ms(10);
  } while (calls() != before);
}

static void starts_when_poked(void **state) {
  (void)state;
  REQUIRE(!background_is_started() && calls() == 0, "started unasked");
  poke(); /* only where there is a thread */
  test_sleep_ms(5);
  REQUIRE(!background_is_started() && calls() == 0, "started by a mere poke");
  os_fail_after(1, false);
  wake();
  os_fail_after(0, false);
  REQUIRE(!background_is_started() && calls() == 0, "started though threads are refused");
  wake();
  await_calls(0, 1);
  REQUIRE(background_is_started(), "not started");
  REQUIRE(test_stats().threads == 1, "the thread counts as the program's");
  REQUIRE(midden_set_suspend_signal(midden_suspend_signal()) == 0, "the thread counts as the program's");
}

/* A task that asks for nothing: each call answers a poke of its own. */
static void calls_only_when_poked(void **state) {
  (void)state;
  for (unsigned i = 0; i < 20; i++) {
    uint32_t before = calls();
    poke();
    await_calls(before, 1);
    test_sleep_ms(1);
    REQUIRE(calls() <= plan.pokes, "%u calls for %u pokes", calls(), plan.pokes);
  }
}

static uint64_t call_time(uint32_t number) { return atomic_load_acquire(&plan.called_ns[number % TIMES]); }

static void calls_as_asked(void **state) {
  (void)state;
  enum { WAIT_NS = 20000000, MAY_COME_EARLY = 3 }; /* what was under way, what follows it, and what answers the poke */
  uint32_t before = calls();
  atomic_store_release(&plan.wait_ns, (uint64_t)0);
  poke();
  await_calls(before, 1000);
  quiet();
  atomic_store_release(&plan.wait_ns, (uint64_t)WAIT_NS);
  before = calls();
  poke();
  await_calls(before, MAY_COME_EARLY + 2);
  uint64_t one_ns = call_time(before + MAY_COME_EARLY), next_ns = call_time(before + MAY_COME_EARLY + 1);
  REQUIRE(next_ns - one_ns >= WAIT_NS, "called %llu ns after the call before", (unsigned long long)(next_ns - one_ns));
  quiet();
}

static void holds_still_while_stopped(void **state) {
  (void)state;
  quiet();
  atomic_store_release(&plan.wait_ns, (uint64_t)0);
  for (unsigned i = 0; i < 20; i++) {
    uint32_t before = calls();
    poke();
    await_calls(before, 10);
    midden_world_stop();
    uint32_t stopped = calls();
    test_sleep_ms(2);
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
  for (unsigned i = 0; i < 3 && test_stats().collections == collections; i++) { /* the first may have begun before */
    uint32_t before = calls();
    poke();
    await_calls(before, 1);
  }
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
    poke();
    test_child_succeeds("fork", in_child, NULL, 20);
  }
  quiet();
  uint32_t before = calls();
  poke();
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(starts_when_poked),
                                     cmocka_unit_test(calls_only_when_poked),
                                     cmocka_unit_test(calls_as_asked),
                                     cmocka_unit_test(holds_still_while_stopped),
                                     cmocka_unit_test(collects),
                                     cmocka_unit_test(starts_anew_in_a_child),
                                     cmocka_unit_test(is_no_obstacle_to_an_end)};
  return test_run_group(tests);
}

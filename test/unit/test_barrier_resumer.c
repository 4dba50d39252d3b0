/* Barrier mode and what only the library's own words of a fiber refer to, on forced schedules.
 *
 * Who waits for a fiber: that is handed on from one fiber to another, of which the first has not been read in this cycle and
 * the second will not be.  What the first waits for is known to nobody else.
 *
 * The argument of a fiber: it is taken out of the fiber by its thread, right after that was scanned.  For that the thread is
 * stepped, one instruction after the other, to where it has left the critical section of the switch. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ucontext.h>

#include <cmocka.h>

#include "support/cycle_steps.h"

enum { STACK_BYTES = 512 << 10 };

NOINLINE_TEST static void *new_object(void) {
  void *object = midden_alloc(64);
  watch(object);
  return object;
}

NOINLINE_TEST static bool is_alive(void) { return midden_weak_get(watched) != NULL; }

/* ---- who waits ---- */

static bool went_on; /* the one who waits */

static void *last(void *unused) {
  (void)unused;
  midden_fiber_yield(NULL);
  cycle_go_on(&cycle.read);
  cycle_end();
  REQUIRE(is_dropped_gone(), "nothing was collected");
  REQUIRE(is_alive(), "what waits was collected, and runs next");
  return NULL;
}

static struct midden_fiber *handed_on_by;

/* The last runs once in this cycle, before it is given who waits; it is new, and so is not read. */
static void *between(void *unused) {
  (void)unused;
  midden_fiber_yield(NULL);
  test_scrub_stack();
  cycle_begin(&cycle.read);
  struct midden_fiber *next = midden_fiber_new(last, NULL, STACK_BYTES);
  REQUIRE(next != NULL && midden_fiber_resume(next, NULL, NULL) == 0, "midden_fiber_resume");
  midden_fiber_switch(next, NULL, NULL);
  REQUIRE(false, "nobody resumes this one");
  return NULL;
}

/* A fiber that was new would have on its stack what was in the registers of the one before it. */
static void *relay(void *unused) {
  (void)unused;
  test_scrub_stack();
  midden_fiber_finish(NULL, handed_on_by);
}

static void *waits(void *unused) {
  (void)unused;
  void *volatile held = new_object();
  REQUIRE(midden_fiber_resume(midden_fiber_new(relay, NULL, STACK_BYTES), NULL, NULL) == 0, "midden_fiber_resume");
  went_on = held != NULL;
  return NULL;
}

/* So that not even the stack of the thread has the address of the one who waits. */
static void *first(void *unused) {
  (void)unused;
  midden_fiber_finish(NULL, midden_fiber_new(waits, NULL, STACK_BYTES));
}

static void who_waits_is_kept_when_it_is_handed_on(void **state) {
  (void)state;
  midden_store(&handed_on_by, midden_fiber_new(between, NULL, STACK_BYTES));
  REQUIRE(midden_fiber_resume(handed_on_by, NULL, NULL) == 0, "midden_fiber_resume");
  REQUIRE(midden_fiber_resume(midden_fiber_new(first, NULL, STACK_BYTES), NULL, NULL) == 0, "midden_fiber_resume");
  assert_true(went_on);
}

/* ---- the argument ---- */

#if defined(__x86_64__)

enum { TRAP_FLAG = 0x100 };

static bool steps;

__attribute__((always_inline)) static inline void set_trap_flag(void) {
  __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | TRAP_FLAG);
}

static void on_step(int signal, siginfo_t *information, void *context) {
  (void)signal, (void)information;
  if (!steps || mutator_self()->critical != 0) return;
  steps = false;
  ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
  cycle_begin(&cycle.read);
}

void *__real_os_context_arrive(void *arrival);
void *__wrap_os_context_arrive(void *arrival);

void *__wrap_os_context_arrive(void *arrival) {
  void *crossing = __real_os_context_arrive(arrival);
  if (steps) set_trap_flag();
  return crossing;
}

static uintptr_t got; /* hidden */

static void *take_argument(void *argument) {
  got = test_hide(argument);
  return NULL;
}

NOINLINE_TEST static struct midden_fiber *new_fiber(void) {
  return midden_fiber_new(take_argument, new_object(), STACK_BYTES);
}

static void an_argument_is_kept_that_is_taken_behind_the_scan(void **state) {
  (void)state;
  sigaction(SIGTRAP, &(struct sigaction){.sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_RESTART}, NULL);
  struct midden_fiber *fiber = new_fiber();
  test_scrub_stack();
  steps = true;
  REQUIRE(midden_fiber_resume(fiber, NULL, NULL) == 0, "midden_fiber_resume");
  test_scrub_stack();
  cycle_go_on(&cycle.read);
  cycle_end();
  assert_true(is_kept(got));
  assert_true(is_dropped_gone());
}

#else

void *__real_os_context_arrive(void *arrival);
void *__wrap_os_context_arrive(void *arrival);
void *__wrap_os_context_arrive(void *arrival) { return __real_os_context_arrive(arrival); }

/* No program steps through itself. */
static void an_argument_is_kept_that_is_taken_behind_the_scan(void **state) { (void)state; }

#endif

int main(void) {
  cycle_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_argument_is_kept_that_is_taken_behind_the_scan),
      cmocka_unit_test(who_waits_is_kept_when_it_is_handed_on),
  };
  return test_run_group(tests);
}

/* Barrier mode and weak references, on a forced schedule: a thread that was scanned is held up in midden_weak_get where it has
 * loaded the target, from there until the cycle that finds the target dead is over.  It must not be handed it.
 *
 * Where it is held up: it is stepped through the call, one instruction after the other, until a register holds the target. */
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

#if defined(__x86_64__)

enum { TRAP_FLAG = 0x100 };

static bool steps; /* the main thread, to the load */
static struct midden_weak *weak;
static uintptr_t target; /* hidden */

static bool holds_target(const greg_t *registers) {
  static const int names[] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_R8,
                              REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  for (size_t i = 0; i < TEST_COUNT_OF(names); i++) {
    if (test_hide((void *)registers[names[i]]) == target) return true;
  }
  return false;
}

/* The cycle ends while the thread is here, or waits for a handshake with it: then it gets some time. */
static void on_step(int signal, siginfo_t *information, void *context) {
  (void)signal, (void)information;
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  if (!steps || !holds_target(registers)) return;
  steps = false;
  registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
  cycle_go_on(&cycle.read);
  for (int ms = 0; ms < 300 && !__atomic_load_n(&cycle.is_over, __ATOMIC_ACQUIRE); ms++)
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

__attribute__((always_inline)) static inline void set_trap_flag(bool on) {
  uintptr_t flags = __builtin_ia32_readeflags_u64();
  __builtin_ia32_writeeflags_u64(on ? flags | TRAP_FLAG : flags & ~(uintptr_t)TRAP_FLAG);
}

/* The first object of all has an address that the library itself loads. */
NOINLINE_TEST static void make(void) {
  midden_alloc(64);
  void *object = midden_alloc(64);
  target = test_hide(object);
  midden_store(&weak, midden_weak_new(object));
}

/* Whether it gave the target, and whether that is an object still. */
NOINLINE_TEST static void *get_by_steps(const struct midden_weak *reference) {
  set_trap_flag(true);
  void *got = midden_weak_get(reference);
  set_trap_flag(false);
  return got;
}

static void a_dead_target_is_not_handed_out(void **state) {
  (void)state;
  make();
  test_scrub_stack();
  cycle_begin(&cycle.read);
  steps = true;
  void *got = get_by_steps(weak);
  steps = false;
  cycle_end();
  assert_true(got == NULL || midden_owns(got));
}

int main(void) {
  cycle_init();
  cycle.read.patience_ms = 10000; /* a thread that holds the handshakes up in its call is not to be waited for */
  sigaction(SIGTRAP, &(struct sigaction){.sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_RESTART}, NULL);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_dead_target_is_not_handed_out),
  };
  return test_run_group(tests);
}

#else

int main(void) { return TEST_SKIPPED; } /* no program steps through itself */

#endif

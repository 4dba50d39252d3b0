/* Barrier mode and weak references, on a forced schedule: a thread that was scanned is held up in midden_weak_get where it has
 * loaded the target, from there until the cycle that finds the target dead is over.  It must not be handed it.
 *
 * Where it is held up: it is stepped through the call, one instruction after the other, until a register holds the target. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ucontext.h>

#include <cmocka.h>

#include "midden/barrier.h"
#include "mutator/roots.h"
#include "support/heap_test.h"

enum { SKIPPED = 77 };

#if defined(__x86_64__)

enum { TRAP_FLAG = 0x100 };

static struct {
  bool waits;    /* behind the next marking of the roots */
  bool steps;    /* the main thread, to the load */
  bool is_ended; /* the cycle */
  sem_t begun, loaded, over;
} plan;

static void await(sem_t *semaphore) {
  while (sem_wait(semaphore) != 0) continue; /* interrupted by a handshake */
}

/* ---- the collector's side ---- */

typedef void visit_fn(void *argument, struct os_range range);
bool __real_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);
bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument);

/* A while: a thread that holds the handshakes up in its call is not to be waited for here. */
static void await_a_while(sem_t *semaphore) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += 10;
  while (sem_timedwait(semaphore, &end) != 0 && errno == EINTR) continue;
}

bool __wrap_roots_visit_running(struct mutator *self, visit_fn *visit, void *argument) {
  bool all = __real_roots_visit_running(self, visit, argument);
  if (plan.waits) {
    plan.waits = false;
    sem_post(&plan.begun);
    await_a_while(&plan.loaded);
  }
  return all;
}

static void *collect(void *unused) {
  (void)unused;
  midden_collect();
  __atomic_store_n(&plan.is_ended, true, __ATOMIC_RELEASE);
  sem_post(&plan.over);
  return NULL;
}

/* ---- the program's side ---- */

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
  if (!plan.steps || !holds_target(registers)) return;
  plan.steps = false;
  registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
  sem_post(&plan.loaded);
  for (int ms = 0; ms < 300 && !__atomic_load_n(&plan.is_ended, __ATOMIC_ACQUIRE); ms++)
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
  plan.waits = true;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, collect, NULL) == 0, "pthread_create");
  await(&plan.begun);
  plan.steps = true;
  void *got = get_by_steps(weak);
  plan.steps = false;
  await(&plan.over);
  pthread_join(thread, NULL);
  assert_true(got == NULL || midden_owns(got));
}

int main(void) {
  midden_init(&(struct midden_options){.size = sizeof(struct midden_options), .mode = MIDDEN_MODE_BARRIER});
  sem_init(&plan.begun, 0, 0);
  sem_init(&plan.loaded, 0, 0);
  sem_init(&plan.over, 0, 0);
  sigaction(SIGTRAP, &(struct sigaction){.sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_RESTART}, NULL);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_dead_target_is_not_handed_out),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void) { return SKIPPED; } /* no program steps through itself */

#endif

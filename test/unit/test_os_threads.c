/* os: threads, stacks, registers and the suspend signal.
 *
 * The values that must be found exist nowhere else: the code that hides one gets its complement and turns it around in
 * the very place, so that a search which succeeds has read that register or that stack slot. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/wait.h"
#include "os/os.h"
#include "support/marked_registers.h"

/* Whether an aligned word of [start, end) holds `value`. */
static NO_SANITIZE bool range_holds(uintptr_t start, uintptr_t end, uintptr_t value) {
  for (const volatile uintptr_t *word = (const uintptr_t *)((start + 7) & ~(uintptr_t)7); (uintptr_t)(word + 1) <= end;
       word++) {
    if (*word == value) return true;
  }
  return false;
}

static void await(uint32_t *word, uint32_t value) {
  for (uint32_t seen; (seen = atomic_load_acquire(word)) != value;) wait_on_word(word, seen);
}

static void announce(uint32_t *word, uint32_t value) {
  atomic_store_release(word, value);
  wake_all(word);
}

/* ---- registers ---- */

struct scan {
  uintptr_t stack_end;
  uintptr_t stack_pointer;
  unsigned calls;
  unsigned found;
};

static void scan_for_marks(uintptr_t stack_pointer, void *opaque) {
  struct scan *scan = opaque;
  scan->calls++;
  scan->stack_pointer = stack_pointer;
  for (unsigned i = 0; i < CALLEE_SAVED; i++)
    scan->found += range_holds(stack_pointer, scan->stack_end, CALL_MARK + i + 1);
}

static void test_call_with_registers(void **state) {
  (void)state;
  struct os_range stack;
  assert_int_equal(os_current_stack(&stack), 0);
  struct scan scan = {.stack_end = stack.end};
  os_call_with_registers(scan_for_marks, &scan);
  assert_int_equal(scan.calls, 1);
  assert_int_equal(scan.found, 0); /* or the next search would prove nothing */
  assert_true(scan.stack_pointer % 16 == 0);
  call_with_marked_registers((void *)os_call_with_registers, (uintptr_t)scan_for_marks, (uintptr_t)&scan, CALL_MARK);
  assert_int_equal(scan.calls, 2);
  assert_int_equal(scan.found, CALLEE_SAVED);
}

/* ---- the suspend signal ---- */

/* Which of its places the spinning thread keeps the hidden value in. */
enum hiding_place { IN_GENERAL_REGISTER, IN_VECTOR_REGISTER, ON_STACK, NOWHERE };

struct victim {
  enum hiding_place place;
  uintptr_t complement; /* of the hidden value */
  bool on_alternate_stack;
  uint32_t ready;   /* atomic; 1 once all the rest is written, but for what comes at the end */
  uint32_t running; /* atomic; 1 once the value is hidden; sanitizers do not see the store */
  uint32_t stop;    /* atomic; 1 to end the spinning */
  uint32_t thread_id;
  struct os_range stack;
  struct os_range alternate_stack;
  int errno_after; /* what was 1234 before */
  uint32_t ended;  /* atomic */
};

/* What the handler saw.  One thread is suspended at a time. */
static struct os_interruption seen;
static uint32_t seen_thread_id;
static uint32_t suspended; /* atomic */
static uint32_t resumed;   /* atomic */

/* Calls nothing that the thread sanitizer could have instrumented. */
static NO_SANITIZE void on_suspend(const struct os_interruption *interruption) {
  seen = *interruption;
  seen_thread_id = os_thread_id();
  errno = 1;
  atomic_store_release(&suspended, 1u);
  wake_all(&suspended);
  while (atomic_load_acquire(&resumed) == 0) wait_on_word(&resumed, 0);
  errno = 1;
  atomic_store_relaxed(&resumed, 0u);
  atomic_store_release(&suspended, 0u);
  wake_all(&suspended);
}

static void suspend_thread(uint32_t thread_id) {
  assert_int_equal(os_signal_thread(thread_id, os_default_suspend_signal()), 0);
  await(&suspended, 1);
}

static void resume_thread(void) {
  announce(&resumed, 1);
  await(&suspended, 0);
}

static NOINLINE void spin_with_general_register(struct victim *victim) {
#if defined(__x86_64__)
  uintptr_t value = victim->complement;
  __asm__ volatile(
      "notq %%rbx\n"
      "movl $1, (%[running])\n"
      "1: pause\n"
      "cmpl $0, (%[stop])\n"
      "je 1b\n"
      "xorl %%ebx, %%ebx\n"
      : "+b"(value)
      : [running] "r"(&victim->running), [stop] "r"(&victim->stop)
      : "memory", "cc");
#else
  register uintptr_t value __asm__("x19") = victim->complement;
  __asm__ volatile(
      "mvn %[value], %[value]\n"
      "mov w9, #1\n"
      "str w9, [%[running]]\n"
      "1: yield\n"
      "ldr w9, [%[stop]]\n"
      "cbz w9, 1b\n"
      "mov %[value], xzr\n"
      : [value] "+r"(value)
      : [running] "r"(&victim->running), [stop] "r"(&victim->stop)
      : "memory", "x9");
#endif
}

static NOINLINE void spin_with_vector_register(struct victim *victim) {
#if defined(__x86_64__)
  uintptr_t value = victim->complement;
  __asm__ volatile(
      "notq %%rbx\n"
      "movq %%rbx, %%xmm9\n"
      "xorl %%ebx, %%ebx\n"
      "movl $1, (%[running])\n"
      "1: pause\n"
      "cmpl $0, (%[stop])\n"
      "je 1b\n"
      "pxor %%xmm9, %%xmm9\n"
      : "+b"(value)
      : [running] "r"(&victim->running), [stop] "r"(&victim->stop)
      : "memory", "cc", "xmm9");
#else
  register uintptr_t value __asm__("x19") = victim->complement;
  __asm__ volatile(
      "mvn %[value], %[value]\n"
      "fmov d20, %[value]\n"
      "mov %[value], xzr\n"
      "mov w9, #1\n"
      "str w9, [%[running]]\n"
      "1: yield\n"
      "ldr w9, [%[stop]]\n"
      "cbz w9, 1b\n"
      "fmov d20, xzr\n"
      : [value] "+r"(value)
      : [running] "r"(&victim->running), [stop] "r"(&victim->stop)
      : "memory", "x9", "v20");
#endif
}

static NOINLINE void spin(struct victim *victim) {
  announce(&victim->running, 1);
  while (atomic_load_acquire(&victim->stop) == 0) atomic_pause();
}

static NOINLINE void spin_with_stack_slot(struct victim *victim) {
  volatile uintptr_t slot = victim->complement;
  slot = ~slot;
  spin(victim);
  slot = 0;
}

static void hide_and_spin(struct victim *victim) {
  announce(&victim->ready, 1);
  if (victim->place == IN_GENERAL_REGISTER) spin_with_general_register(victim);
  if (victim->place == IN_VECTOR_REGISTER) spin_with_vector_register(victim);
  if (victim->place == ON_STACK) spin_with_stack_slot(victim);
  if (victim->place == NOWHERE) spin(victim);
}

static struct victim *alternate_victim;

/* The signal is opened again because the thread sanitizer blocks all of them in handlers. */
static void spin_in_handler(int signal_number) {
  (void)signal_number;
  os_unblock_signal(os_default_suspend_signal());
  hide_and_spin(alternate_victim);
}

static void spin_on_alternate_stack(struct victim *victim) {
  size_t bytes = 256 << 10;
  char *memory = os_map(bytes);
  victim->alternate_stack = (struct os_range){(uintptr_t)memory, (uintptr_t)memory + bytes};
  stack_t before;
  stack_t alternate = {.ss_sp = memory, .ss_size = bytes};
  struct sigaction action = {.sa_handler = spin_in_handler, .sa_flags = SA_ONSTACK};
  sigfillset(&action.sa_mask);
  sigdelset(&action.sa_mask, os_default_suspend_signal());
  alternate_victim = victim;
  sigaltstack(&alternate, &before);
  sigaction(SIGUSR1, &action, NULL);
  raise(SIGUSR1);
  sigaltstack(&before, NULL);
  os_unmap(memory, bytes);
}

static void *be_victim(void *opaque) {
  struct victim *victim = opaque;
  victim->thread_id = os_thread_id();
  os_current_stack(&victim->stack);
  errno = 1234;
  if (victim->on_alternate_stack) {
    spin_on_alternate_stack(victim);
  } else {
    hide_and_spin(victim);
  }
  victim->errno_after = errno;
  announce(&victim->ended, 1);
  return NULL;
}

static pthread_t start_victim(struct victim *victim, void *(*run)(void *)) {
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, run, victim), 0);
  await(&victim->ready, 1);
  while (atomic_load_acquire(&victim->running) == 0) usleep(200); /* set from assembly: no wake comes */
  return thread;
}

static void end_victim(struct victim *victim, pthread_t thread) {
  announce(&victim->stop, 1);
  pthread_join(thread, NULL);
  assert_int_equal(victim->ended, 1);
}

static void test_suspended_thread_shows_all_its_values(void **state) {
  (void)state;
  for (int alternate = 0; alternate <= 1; alternate++) {
    for (enum hiding_place place = IN_GENERAL_REGISTER; place <= NOWHERE; place++) {
      struct victim victim = {
          .place = place, .complement = 0x1234abcd1234abc0 + (uintptr_t)place, .on_alternate_stack = alternate};
      pthread_t thread = start_victim(&victim, be_victim);
      suspend_thread(victim.thread_id);
      struct os_range stack = alternate ? victim.alternate_stack : victim.stack;
      assert_int_equal(seen_thread_id, victim.thread_id);
      assert_true(seen.stack_pointer > stack.start && seen.stack_pointer < stack.end);
      assert_int_equal(seen.alternate_stack.start, alternate ? stack.start : 0);
      assert_int_equal(seen.alternate_stack.end, alternate ? stack.end : 0);
      bool found = range_holds(seen.stack_pointer, stack.end, ~victim.complement);
      resume_thread();
      end_victim(&victim, thread);
      assert_int_equal(found, place != NOWHERE);
      if (!alternate) assert_int_equal(victim.errno_after, 1234);
    }
  }
}

/* An alternate stack that is set up, but not in use, is none. */
static void *be_victim_with_idle_alternate_stack(void *opaque) {
  size_t bytes = 256 << 10;
  char *memory = os_map(bytes);
  stack_t before;
  stack_t alternate = {.ss_sp = memory, .ss_size = bytes};
  sigaltstack(&alternate, &before);
  be_victim(opaque);
  sigaltstack(&before, NULL);
  os_unmap(memory, bytes);
  return NULL;
}

static void test_idle_alternate_stack_is_not_reported(void **state) {
  (void)state;
  struct victim victim = {.place = NOWHERE};
  pthread_t thread = start_victim(&victim, be_victim_with_idle_alternate_stack);
  suspend_thread(victim.thread_id);
  assert_int_equal(seen.alternate_stack.end, 0);
  assert_true(seen.stack_pointer > victim.stack.start && seen.stack_pointer < victim.stack.end);
  resume_thread();
  end_victim(&victim, thread);
}

static uint32_t other_signals; /* atomic; how often SIGUSR2 was handled */

static void count_signal(int signal_number) {
  (void)signal_number;
  atomic_add_relaxed(&other_signals, 1u);
}

static void test_no_other_handler_runs_in_a_suspended_thread(void **state) {
  (void)state;
  struct sigaction action = {.sa_handler = count_signal};
  sigaction(SIGUSR2, &action, NULL);
  struct victim victim = {.place = NOWHERE};
  pthread_t thread = start_victim(&victim, be_victim);
  suspend_thread(victim.thread_id);
  assert_int_equal(os_signal_thread(victim.thread_id, SIGUSR2), 0);
  usleep(20000);
  assert_int_equal(atomic_load_relaxed(&other_signals), 0);
  resume_thread();
  /* Sanitizers deliver it late: only the end of the thread is sure to come after. */
  end_victim(&victim, thread);
  assert_int_equal(atomic_load_relaxed(&other_signals), 1);
  signal(SIGUSR2, SIG_DFL);
}

struct reader {
  int file;
  uint32_t thread_id;
  uint32_t running;
  ssize_t result;
  char byte;
};

static void *read_byte(void *opaque) {
  struct reader *reader = opaque;
  reader->thread_id = os_thread_id();
  announce(&reader->running, 1);
  reader->result = read(reader->file, &reader->byte, 1);
  return NULL;
}

static void test_system_calls_are_restarted(void **state) {
  (void)state;
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  struct reader reader = {.file = ends[0]};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, read_byte, &reader), 0);
  await(&reader.running, 1);
  usleep(10000); /* so that it sleeps in read, which is what is tested */
  suspend_thread(reader.thread_id);
  resume_thread();
  assert_int_equal(write(ends[1], "x", 1), 1);
  pthread_join(thread, NULL);
  assert_int_equal(reader.result, 1);
  assert_int_equal(reader.byte, 'x');
  close(ends[0]);
  close(ends[1]);
}

static void test_unblock_signal(void **state) {
  (void)state;
  sigset_t all;
  sigset_t before;
  sigset_t now;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  os_unblock_signal(os_default_suspend_signal());
  pthread_sigmask(SIG_SETMASK, &before, &now);
  assert_false(sigismember(&now, os_default_suspend_signal()));
  assert_true(sigismember(&now, SIGUSR1));
}

static void *return_thread_id(void *argument) {
  *(uint32_t *)argument = os_thread_id();
  return NULL;
}

static void test_signal_to_no_thread(void **state) {
  (void)state;
  uint32_t thread_id = 0;
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, return_thread_id, &thread_id), 0);
  pthread_join(thread, NULL);
  int error = 0;
  for (int i = 0; i < 1000 && error == 0; i++) { /* pthread_join comes back a little before the kernel is done */
    error = os_signal_thread(thread_id, 0);
    if (error == 0) usleep(1000);
  }
  assert_int_equal(error, -ESRCH);
  assert_int_equal(os_signal_thread(os_thread_id(), 0), 0);
  assert_int_equal(os_install_suspend_handler(SIGKILL, on_suspend), -EINVAL);
}

/* ---- stacks ---- */

static struct os_range stack_of_attributes(void) {
  pthread_attr_t attributes;
  void *start;
  size_t bytes;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &start, &bytes);
  pthread_attr_destroy(&attributes);
  return (struct os_range){(uintptr_t)start, (uintptr_t)start + bytes};
}

static void assert_stack_is_right(const struct os_range *stack, const struct os_range *expected, uintptr_t here) {
  assert_true(here > stack->start && here < stack->end);
  assert_int_equal(stack->end, expected->end);
  assert_true(stack->end - stack->start > 16384);
}

static void test_main_stack(void **state) {
  (void)state;
  struct os_range stack;
  assert_int_equal(os_current_stack(&stack), 0);
  struct os_range expected = stack_of_attributes();
  assert_stack_is_right(&stack, &expected, (uintptr_t)__builtin_frame_address(0));
}

static int unlimited_main_stack_is_right(void) {
  struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
  struct rlimit before;
  getrlimit(RLIMIT_STACK, &before);
  limit.rlim_max = before.rlim_max;
  if (setrlimit(RLIMIT_STACK, &limit) != 0) return 77;
  struct os_range stack;
  struct os_range expected = stack_of_attributes();
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  if (os_current_stack(&stack) != 0) return 1;
  return here > stack.start && here < stack.end && stack.end == expected.end ? 0 : 2;
}

static void run_in_child(int (*body)(void)) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(body());
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) skip();
  assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_main_stack_without_limit(void **state) {
  (void)state;
  run_in_child(unlimited_main_stack_is_right);
}

/* Without descriptors the C library cannot read /proc/self/maps, as where there is none. */
static int main_stack_is_found_in_the_dark(void) {
  struct rlimit limit;
  struct os_range stack, expected = stack_of_attributes();
  if (getrlimit(RLIMIT_STACK, &limit) != 0) return 3;
  limit.rlim_cur = RLIM_INFINITY;
  if (setrlimit(RLIMIT_STACK, &limit) != 0) return 77;
  if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, 0}) != 0) return 4;
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  if (os_current_stack(&stack) != 0) return 5;
  return here > stack.start && here < stack.end && stack.end == expected.end ? 0 : 6;
}

static void test_main_stack_in_the_dark(void **state) {
  (void)state;
  run_in_child(main_stack_is_found_in_the_dark);
}

struct stack_report {
  int error;
  struct os_range stack;
  struct os_range expected;
  uintptr_t here;
  int fork_status; /* of a child that asked the same: its only thread is this one */
};

static void *report_stack(void *opaque) {
  struct stack_report *report = opaque;
  report->error = os_current_stack(&report->stack);
  report->expected = stack_of_attributes();
  report->here = (uintptr_t)__builtin_frame_address(0);
  pid_t child = fork();
  if (child == 0) {
    struct os_range stack;
    _exit(os_current_stack(&stack) == 0 && stack.end == report->stack.end ? 0 : 1);
  }
  waitpid(child, &report->fork_status, 0);
  return NULL;
}

static void test_thread_stack_also_after_fork(void **state) {
  (void)state;
  struct stack_report report = {.fork_status = -1};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, report_stack, &report), 0);
  pthread_join(thread, NULL);
  assert_int_equal(report.error, 0);
  assert_stack_is_right(&report.stack, &report.expected, report.here);
  assert_int_equal(report.stack.start, report.expected.start);
  assert_int_equal(report.fork_status, 0);
}

/* ---- threads ---- */

struct started {
  uint32_t done;
  uint32_t thread_id;
  char name[16];
  sigset_t blocked;
  int depth; /* frames that it could stack */
};

static NOINLINE int use_stack(int depth) {
  volatile char frame[1024];
  frame[0] = (char)depth;
  return depth == 0 ? frame[0] : use_stack(depth - 1) + 1;
}

static void report_started(void *opaque) {
  struct started *started = opaque;
  started->thread_id = os_thread_id();
  pthread_getname_np(pthread_self(), started->name, sizeof started->name);
  pthread_sigmask(SIG_SETMASK, NULL, &started->blocked);
  started->depth = use_stack(100);
  announce(&started->done, 1);
}

static void test_start_thread(void **state) {
  (void)state;
  sigset_t before;
  sigset_t after;
  pthread_sigmask(SIG_SETMASK, NULL, &before);
  struct started started = {0};
  assert_int_equal(os_start_thread(report_started, &started, "a-name-of-15-ch"), 0);
  await(&started.done, 1);
  assert_true(started.thread_id != os_thread_id());
  assert_string_equal(started.name, "a-name-of-15-ch");
  assert_int_equal(started.depth, 100);
  const int blocked[] = {SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGALRM, SIGPROF, SIGPWR, SIGRTMIN};
  for (size_t i = 0; i < COUNT_OF(blocked); i++) assert_true(sigismember(&started.blocked, blocked[i]));
  pthread_sigmask(SIG_SETMASK, NULL, &after);
  for (int i = 1; i < SIGRTMAX; i++) assert_int_equal(sigismember(&before, i), sigismember(&after, i));
}

static void test_long_name_is_cut(void **state) {
  (void)state;
  struct started started = {0};
  assert_int_equal(os_start_thread(report_started, &started, "a-name-that-goes-on"), 0);
  await(&started.done, 1);
  assert_string_equal(started.name, "a-name-that-goe");
}

/* ---- where a thread runs ---- */

struct placed {
  uint32_t thread_id, round, reported; /* atomic; round 0: not begun; OVER: end */
  unsigned processor;
};

enum { OVER = UINT32_MAX >> 1, ROUNDS = 20 };

static void report_processor(void *opaque) {
  struct placed *placed = opaque;
  atomic_store_relaxed(&placed->thread_id, os_thread_id());
  for (uint32_t round = 0;;) {
    announce(&placed->reported, round);
    while (atomic_load_acquire(&placed->round) == round) wait_on_word(&placed->round, round);
    round = atomic_load_acquire(&placed->round);
    if (round == OVER) break;
    placed->processor = (unsigned)sched_getcpu();
  }
  announce(&placed->reported, OVER);
}

static unsigned wake_and_ask(struct placed *placed, uint32_t round) {
  announce(&placed->round, round);
  await(&placed->reported, round);
  return placed->processor;
}

static cpu_set_t only(unsigned processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  return set;
}

static void move_to(uint32_t thread_id, unsigned processor) {
  cpu_set_t set = only(processor);
  assert_int_equal(sched_setaffinity((pid_t)thread_id, sizeof set, &set), 0);
}

static bool may_run_as(uint32_t thread_id, const cpu_set_t *expected) {
  cpu_set_t set;
  assert_int_equal(sched_getaffinity((pid_t)thread_id, sizeof set, &set), 0);
  return CPU_EQUAL(&set, expected);
}

static bool may_only_run_on(uint32_t thread_id, unsigned processor) {
  cpu_set_t expected = only(processor);
  return may_run_as(thread_id, &expected);
}

/* Two of those on which this thread may run; false if there is but one. */
static bool find_two(unsigned *first, unsigned *second) {
  cpu_set_t set;
  unsigned found[2], count = 0;
  assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
  for (unsigned i = 0; i < CPU_SETSIZE && count < 2; i++) {
    if (CPU_ISSET(i, &set)) found[count++] = i;
  }
  *first = found[0];
  *second = count < 2 ? found[0] : found[1];
  return count == 2;
}

static void test_place_elsewhere(void **state) {
  (void)state;
  cpu_set_t before;
  struct placed placed = {0};
  struct os_placement placement = {0};
  unsigned first, second;
  if (!find_two(&first, &second)) skip();
  assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
  assert_int_equal(os_start_thread(report_processor, &placed, "placed"), 0);
  while (atomic_load_acquire(&placed.thread_id) == 0) wait_yield();
  for (uint32_t round = 1; round <= ROUNDS; round++) {
    unsigned here = round % 3 == 0 ? second : first;
    move_to(0, here);
    os_place_elsewhere(placed.thread_id, &placement);
    assert_true(wake_and_ask(&placed, round) != here);
    if (round % 5 != 0) continue;
    os_place_anywhere(placed.thread_id, &placement);
    assert_true(may_run_as(placed.thread_id, &before));
  }
  /* Somebody else's wish comes first. */
  move_to(placed.thread_id, first);
  for (int i = 0; i < 2; i++) {
    move_to(0, i == 0 ? first : second);
    os_place_elsewhere(placed.thread_id, &placement);
    assert_true(may_only_run_on(placed.thread_id, first));
    if (i == 0) os_place_anywhere(placed.thread_id, &placement);
    assert_true(may_only_run_on(placed.thread_id, first));
  }
  announce(&placed.round, OVER);
  await(&placed.reported, OVER);
  assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

/* As in struct sched_attr, which not every C library declares. */
struct scheduling {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime_ns, deadline_ns, period_ns;
};

static struct scheduling scheduling_now(void) {
  struct scheduling now = {.size = sizeof now};
  assert_int_equal(syscall(SYS_sched_getattr, 0, &now, sizeof now, 0), 0);
  return now;
}

static void *take_short_turns(void *opaque) {
  struct scheduling *turns = opaque;
  turns[0] = scheduling_now();
  os_take_short_turns();
  turns[1] = scheduling_now();
  os_be_patient();
  os_take_short_turns();
  turns[2] = scheduling_now();
  return NULL;
}

/* A kernel that knows no turns says 0 of them, before as after. */
static void test_short_turns(void **state) {
  (void)state;
  pthread_t thread;
  struct scheduling turns[3];
  assert_int_equal(pthread_create(&thread, NULL, take_short_turns, turns), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(turns[i].policy, i < 2 ? turns[0].policy : SCHED_BATCH);
    assert_int_equal(turns[i].nice, turns[0].nice);
    assert_int_equal(turns[i].runtime_ns, turns[0].runtime_ns == 0 || i == 0 ? turns[0].runtime_ns : 100000);
  }
}

static uint32_t exits;          /* atomic */
static void *exit_argument;     /* of the last call */
static uint32_t exit_thread_id; /* that it was in */

static void on_exit_count(void *argument) {
  exit_argument = argument;
  exit_thread_id = os_thread_id();
  atomic_add_relaxed(&exits, 1u);
}

struct leaver {
  bool take_back;
  int error;
  uint32_t thread_id;
};

static void *leave(void *opaque) {
  struct leaver *leaver = opaque;
  leaver->thread_id = os_thread_id();
  leaver->error = os_on_thread_exit(on_exit_count, leaver);
  if (leaver->take_back) leaver->error |= os_on_thread_exit(on_exit_count, NULL);
  return NULL;
}

static void test_on_thread_exit(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 3; i++) {
    struct leaver leaver = {.take_back = i == 1, .error = -1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, leave, &leaver), 0);
    pthread_join(thread, NULL);
    assert_int_equal(leaver.error, 0);
    assert_int_equal(atomic_load_relaxed(&exits), i == 0 ? 1 : i);
    if (leaver.take_back) continue;
    assert_ptr_equal(exit_argument, &leaver);
    assert_int_equal(exit_thread_id, leaver.thread_id);
  }
}

/* ---- processes ---- */

static int prepared;
static int in_parent;
static int in_child;

static void note_prepare(void) { prepared++; }
static void note_parent(void) { in_parent++; }
static void note_child(void) { in_child++; }

static void test_at_fork(void **state) {
  (void)state;
  assert_int_equal(os_at_fork(note_prepare, note_parent, note_child), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(prepared == 1 && in_child == 1 && in_parent == 0 ? 0 : 1);
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_int_equal(prepared, 1);
  assert_int_equal(in_parent, 1);
  assert_int_equal(in_child, 0);
}

static int set_up(void **state) {
  (void)state;
  os_init();
  return os_install_suspend_handler(os_default_suspend_signal(), on_suspend);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_call_with_registers),
      cmocka_unit_test(test_suspended_thread_shows_all_its_values),
      cmocka_unit_test(test_idle_alternate_stack_is_not_reported),
      cmocka_unit_test(test_no_other_handler_runs_in_a_suspended_thread),
      cmocka_unit_test(test_system_calls_are_restarted),
      cmocka_unit_test(test_unblock_signal),
      cmocka_unit_test(test_signal_to_no_thread),
      cmocka_unit_test(test_main_stack),
      cmocka_unit_test(test_main_stack_without_limit),
      cmocka_unit_test(test_main_stack_in_the_dark),
      cmocka_unit_test(test_thread_stack_also_after_fork),
      cmocka_unit_test(test_start_thread),
      cmocka_unit_test(test_long_name_is_cut),
      cmocka_unit_test(test_place_elsewhere),
      cmocka_unit_test(test_short_turns),
      cmocka_unit_test(test_on_thread_exit),
      cmocka_unit_test(test_at_fork),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}

/* Linux: threads, their stacks and registers, and the signal that suspends them.
 *
 * Whoever scans a thread needs each value that its code may still use to lie in its stack.  A thread that stops by
 * itself has only the callee-saved registers to spill (its caller spilled the others): os_call_with_registers.  A thread
 * that is stopped by a signal has all of them in the signal frame, which the kernel wrote to its stack. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <execinfo.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/wait.h"
#include "os/os.h"
#include "os/os_linux.h"

/* ---- registers ----
 *
 * Written in assembly, since in C the compiler decides when a register is saved and where: the frame of a C function may
 * keep its caller's registers below the address that it would pass on.  setjmp is no help, as the C library scrambles
 * some of what it stores.  The callee preserves the registers, so nothing is loaded back. */

#if defined(__x86_64__)

/* rbx, rbp, r12 to r15.  With the return address, six registers and eight bytes of padding the stack is aligned. */
__asm__(
    ".text\n"
    ".p2align 4\n"
    ".globl os_call_with_registers\n"
    ".hidden os_call_with_registers\n"
    ".type os_call_with_registers, @function\n"
    "os_call_with_registers:\n"
    "  .cfi_startproc\n"
    "  endbr64\n"
    "  subq $56, %rsp\n"
    "  .cfi_def_cfa_offset 64\n"
    "  movq %rbx, 0(%rsp)\n"
    "  movq %rbp, 8(%rsp)\n"
    "  movq %r12, 16(%rsp)\n"
    "  movq %r13, 24(%rsp)\n"
    "  movq %r14, 32(%rsp)\n"
    "  movq %r15, 40(%rsp)\n"
    "  movq $0, 48(%rsp)\n"
    "  movq %rdi, %rax\n"
    "  movq %rsp, %rdi\n"
    "  callq *%rax\n"
    "  addq $56, %rsp\n"
    "  .cfi_def_cfa_offset 8\n"
    "  retq\n"
    "  .cfi_endproc\n"
    ".size os_call_with_registers, . - os_call_with_registers\n");

#elif defined(__aarch64__)

/* x19 to x29, and the lower halves of v8 to v15, where compilers may keep general values too.  "hint #34" is bti c. */
__asm__(
    ".text\n"
    ".p2align 4\n"
    ".globl os_call_with_registers\n"
    ".hidden os_call_with_registers\n"
    ".type os_call_with_registers, %function\n"
    "os_call_with_registers:\n"
    "  .cfi_startproc\n"
    "  hint #34\n"
    "  stp x29, x30, [sp, #-160]!\n"
    "  .cfi_def_cfa_offset 160\n"
    "  .cfi_offset 29, -160\n"
    "  .cfi_offset 30, -152\n"
    "  mov x29, sp\n"
    "  stp x19, x20, [sp, #16]\n"
    "  stp x21, x22, [sp, #32]\n"
    "  stp x23, x24, [sp, #48]\n"
    "  stp x25, x26, [sp, #64]\n"
    "  stp x27, x28, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n"
    "  stp d10, d11, [sp, #112]\n"
    "  stp d12, d13, [sp, #128]\n"
    "  stp d14, d15, [sp, #144]\n"
    "  mov x2, x0\n"
    "  mov x0, sp\n"
    "  blr x2\n"
    "  ldp x29, x30, [sp], #160\n"
    "  .cfi_def_cfa_offset 0\n"
    "  .cfi_restore 29\n"
    "  .cfi_restore 30\n"
    "  ret\n"
    "  .cfi_endproc\n"
    ".size os_call_with_registers, . - os_call_with_registers\n");

#else
#error "os_linux_threads.c knows the registers of x86-64 and aarch64 only"
#endif

static NO_SANITIZE uintptr_t interrupted_stack_pointer(const ucontext_t *context) {
#if defined(__x86_64__)
  return (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
#else
  return (uintptr_t)context->uc_mcontext.sp;
#endif
}

uintptr_t os_thread_handle(void) { return (uintptr_t)pthread_self(); }

uintptr_t os_thread_pointer(void) {
  uintptr_t pointer;
#if defined(__x86_64__)
  __asm__("movq %%fs:0, %0" : "=r"(pointer)); /* the control block opens with its own address */
#else
  __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
#endif
  return pointer;
}

/* ---- signals ---- */

/* What a fault raises in the thread itself. */
static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};

static bool is_fault(int signal) {
  for (size_t i = 0; i < COUNT_OF(faults); i++) {
    if (faults[i] == signal) return true;
  }
  return false;
}

/* While blocked, a fault would kill the process instead of reaching the program's handler (its crash reporter, its system call
 * filter, a debugger's breakpoint). */
static void fill_blockable_signals(sigset_t *set) {
  sigfillset(set);
  for (size_t i = 0; i < COUNT_OF(faults); i++) sigdelset(set, faults[i]);
}

_Static_assert(sizeof(struct os_signals) >= sizeof(sigset_t), "os_signals holds a sigset_t");

void os_block_signals(struct os_signals *before) {
  sigset_t all, old;
  fill_blockable_signals(&all);
  pthread_sigmask(SIG_BLOCK, &all, &old);
  memcpy(before, &old, sizeof old);
}

void os_restore_signals(const struct os_signals *before) {
  sigset_t old;
  memcpy(&old, before, sizeof old);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}

int os_forbid_cancellation(void) {
  int before;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
  return before;
}

void os_restore_cancellation(int before) { pthread_setcancelstate(before, NULL); }

/* Set before the signal can arrive. */
static void (*suspend_handler)(const struct os_interruption *interruption);

/* atomic; what the program had put in the place of take_suspend_signal, or before that was there; NULL: nothing */
static void (*program_handler)(int signal, siginfo_t *information, void *context);

/* The alternate stack of the frame, if the interrupted code ran on it.  The kernel's flags in uc_stack tell how that
 * stack was set up, not whether it is in use, so the stack pointer decides, as it does in the kernel. */
static NO_SANITIZE struct os_range alternate_stack_in_use(const ucontext_t *context) {
  uintptr_t start = (uintptr_t)context->uc_stack.ss_sp;
  uintptr_t end = start + context->uc_stack.ss_size;
  uintptr_t pointer = interrupted_stack_pointer(context);
  bool in_use = !(context->uc_stack.ss_flags & SS_DISABLE) && pointer > start && pointer <= end;
  return in_use ? (struct os_range){start, end} : (struct os_range){0, 0};
}

/* The kernel's signal frame lies between this function's frame and the interrupted code's (its red zone included), with
 * every general register in it and every vector register too: a pointer may for a moment live in a vector register
 * only, as in a copy loop.  So the frame's address is a stack pointer that hides nothing.
 *
 * Nothing here, nor what the handler calls, may be instrumented by the thread sanitizer: the signal may have come in the
 * middle of its runtime, while the thread holds one of the runtime's locks. */
static NO_SANITIZE void take_suspend_signal(int signal, siginfo_t *information, void *context) {
  int saved_errno = errno;
  struct os_interruption interruption = {
      .stack_pointer = (uintptr_t)__builtin_frame_address(0),
      .interrupted_stack_pointer = interrupted_stack_pointer(context),
      .alternate_stack = alternate_stack_in_use(context),
  };
  ASSERT(interruption.stack_pointer < (uintptr_t)context);
  suspend_handler(&interruption); /* whoever sent it: of two that came at once the kernel delivers one */
  void (*handler)(int, siginfo_t *, void *) = atomic_load_relaxed(&program_handler);
  if (handler != NULL && information->si_code != SI_TKILL) handler(signal, information, context);
  errno = saved_errno;
}

#if THREAD_SANITIZER

/* The sanitizer's sigaction hands a signal on only when the thread next calls into its runtime, and then without the
 * registers: a thread in a loop would never stop.  So it is bypassed. */
struct kernel_sigaction {
  void (*handler)(int signal, siginfo_t *information, void *context);
  unsigned long flags;
  void (*restorer)(void);
  uint64_t mask;
};

#if defined(__x86_64__)
enum { NEEDS_RESTORER = 0x04000000 }; /* SA_RESTORER */
void os_linux_return_from_signal(void);
__asm__(
    ".text\n"
    ".globl os_linux_return_from_signal\n"
    ".hidden os_linux_return_from_signal\n"
    ".type os_linux_return_from_signal, @function\n"
    "os_linux_return_from_signal:\n"
    "  movq $15, %rax\n" /* rt_sigreturn */
    "  syscall\n"
    ".size os_linux_return_from_signal, . - os_linux_return_from_signal\n");
#else
enum { NEEDS_RESTORER = 0 }; /* the kernel brings its own */
static void os_linux_return_from_signal(void) {}
#endif

static int set_action(int signal, const struct sigaction *action) {
  struct kernel_sigaction raw = {
      .handler = action->sa_sigaction,
      .flags = (unsigned long)action->sa_flags | NEEDS_RESTORER,
      .restorer = os_linux_return_from_signal,
  };
  memcpy(&raw.mask, &action->sa_mask, sizeof raw.mask);
  return syscall(SYS_rt_sigaction, signal, &raw, NULL, sizeof raw.mask) == 0 ? 0 : -errno;
}

#else

static int set_action(int signal, const struct sigaction *action) {
  return sigaction(signal, action, NULL) == 0 ? 0 : -errno;
}

#endif

/* Where a thread is cancelled at once, as in a call that is a cancellation point, the C library's handler does it, which would
 * leave ours from the middle: the thread would end while it counts as stopped.  That signal is in no set, and has the first
 * number that the C library keeps for itself. */
static void add_cancellation(sigset_t *set) {
  uint64_t first;
  memcpy(&first, set, sizeof first);
  first |= UINT64_C(1) << (__SIGRTMIN - 1);
  memcpy(set, &first, sizeof first);
}

/* SIG_DFL and SIG_IGN lie in the same word as a handler. */
static bool has_other_handler(const struct sigaction *action) {
  return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN && action->sa_sigaction != take_suspend_signal;
}

/* The mask keeps the program's handlers from running in a thread that counts as stopped.  No SA_ONSTACK: the frame must
 * lie in the stack that will be scanned. */
static int take_signal(int signal) {
  struct sigaction action = {.sa_sigaction = take_suspend_signal, .sa_flags = SA_RESTART | SA_SIGINFO};
  fill_blockable_signals(&action.sa_mask);
  add_cancellation(&action.sa_mask);
  return set_action(signal, &action);
}

/* The C library puts those that it needs for itself in no set. */
bool os_can_suspend_by(int signal) {
  sigset_t set;
  sigemptyset(&set);
  return sigaddset(&set, signal) == 0 && signal != SIGKILL && signal != SIGSTOP && !is_fault(signal);
}

static int take_over(int signal, const struct sigaction *before) {
  atomic_store_relaxed(&program_handler, has_other_handler(before) ? before->sa_sigaction : NULL);
  return take_signal(signal);
}

int os_install_suspend_handler(int signal, void (*handler)(const struct os_interruption *interruption)) {
  struct sigaction before;
  if (!os_can_suspend_by(signal)) return -EINVAL;
  if (sigaction(signal, NULL, &before) != 0) return -errno;
  suspend_handler = handler;
  return take_over(signal, &before);
}

bool os_keep_suspend_handler(int signal) {
  struct sigaction now;
  if (sigaction(signal, NULL, &now) != 0 || now.sa_sigaction == take_suspend_signal) return false;
  take_over(signal, &now);
  return true;
}

/* Hardly used, and ignored where it is not handled: one that is under way when the program becomes another by exec, or resets its
 * signals, kills nobody.  Where somebody handles it already, the one by which init learns that the power fails. */
int os_default_suspend_signal(void) {
  struct sigaction now;
  return sigaction(SIGURG, NULL, &now) == 0 && has_other_handler(&now) ? SIGPWR : SIGURG;
}

void os_unblock_signal(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int os_signal_thread(uint32_t thread_id, int signal) {
  return syscall(SYS_tgkill, getpid(), (pid_t)thread_id, signal) == 0 ? 0 : -errno;
}

/* ---- threads ---- */

NO_SANITIZE uint32_t os_thread_id(void) { return (uint32_t)syscall(SYS_gettid); }

/* The end of the first thread's stack frames, set by the loader.  Above lie only the program's arguments. */
extern void *__libc_stack_end;

/* Where the first thread's stack lies, as the C library says it, if it is no larger than this and the calling one is that
 * thread: the kernel maps nothing else within 128 MiB below its end. */
static bool find_first_stack(size_t bytes, struct os_range *stack) {
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  uintptr_t end = round_down((uintptr_t)__libc_stack_end, os_page_bytes()) + os_page_bytes();
  uintptr_t start = round_down(end - bytes, os_page_bytes());
  if (here < start || here >= end) return false;
  *stack = (struct os_range){start, end};
  return true;
}

static int ask_for_stack(struct os_range *stack) {
  pthread_attr_t attributes;
  int error = pthread_getattr_np(pthread_self(), &attributes);
  if (error != 0) return -error;
  void *start;
  size_t bytes;
  error = pthread_attr_getstack(&attributes, &start, &bytes);
  pthread_attr_destroy(&attributes);
  if (error != 0) return -error;
  *stack = (struct os_range){(uintptr_t)start, (uintptr_t)start + bytes};
  return 0;
}

/* The C library reads /proc/self/maps for the first thread's stack.  Where the limit is an ordinary one that stack is known
 * without.  So it is where there is no such file, or no descriptor to read it by: what lies below is mapped as the stack
 * grows (os_stack_reaches). */
int os_current_stack(struct os_range *stack) {
  enum { ORDINARY_LIMIT_BYTES = 64 << 20 };
  struct rlimit limit;
  bool is_ordinary = getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur <= ORDINARY_LIMIT_BYTES;
  if (is_ordinary && find_first_stack(limit.rlim_cur, stack)) return 0;
  int error = ask_for_stack(stack);
  return error != 0 && find_first_stack(ORDINARY_LIMIT_BYTES, stack) ? 0 : error;
}

enum { MAPPED_MOST_PAGES = 256 }; /* that are asked for at once */

static bool are_mapped(uintptr_t start, size_t bytes) {
  unsigned char resident[MAPPED_MOST_PAGES];
  return mincore((void *)start, bytes, resident) == 0 || errno != ENOMEM;
}

static bool is_mapped(uintptr_t page) { return are_mapped(page, 1); }

/* Halves what lies between a page that is not mapped and one that is.  In the gap below it the kernel maps nothing else. */
static uintptr_t find_first_mapped(uintptr_t low, uintptr_t high) {
  while (high - low > os_page_bytes()) {
    uintptr_t middle = low + round_down((high - low) / 2, os_page_bytes());
    if (is_mapped(middle)) {
      high = middle;
    } else {
      low = middle;
    }
  }
  return high;
}

struct os_range os_mapped_stack(struct os_range stack) {
  if (stack.start >= stack.end) return stack;
  int saved_errno = errno;
  uintptr_t low = round_down(stack.start, os_page_bytes()), high = round_down(stack.end - 1, os_page_bytes());
  if (!is_mapped(low)) stack.start = find_first_mapped(low, high);
  errno = saved_errno;
  return stack;
}

/* Not by the thread's number: in a fork's child the first thread may be one whose stack does not grow. */
static bool is_first_stack(struct os_range stack) {
  uintptr_t frames_end = (uintptr_t)__libc_stack_end;
  return stack.start < frames_end && frames_end <= stack.end;
}

/* The kernel keeps a gap below it, so all is mapped in between. */
bool os_stack_reaches(struct os_range stack, uintptr_t address) {
  if (!is_first_stack(stack) || address >= stack.start) return false;
  int saved_errno = errno;
  bool mapped = true;
  uintptr_t low = round_down(stack.start, os_page_bytes()), last = round_down(address, os_page_bytes());
  for (size_t step; mapped && low > last; low -= step) {
    step = min_size(low - last, MAPPED_MOST_PAGES * os_page_bytes());
    mapped = are_mapped(low - step, step);
  }
  errno = saved_errno;
  return mapped;
}

struct os_range os_alternate_stack(bool *in_use) {
  stack_t now;
  bool has_any = sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_DISABLE) == 0;
  *in_use = has_any && (now.ss_flags & SS_ONSTACK) != 0;
  if (!has_any) return (struct os_range){0};
  return (struct os_range){(uintptr_t)now.ss_sp, (uintptr_t)now.ss_sp + now.ss_size};
}

static bool is_any(const uint64_t *processors) {
  for (size_t i = 0; i < OS_PROCESSORS_MAX / 64; i++) {
    if (processors[i] != 0) return true;
  }
  return false;
}

/* A set that is not as we left it is somebody else's wish. */
void os_place_elsewhere(uint32_t thread_id, struct os_placement *placement) {
  unsigned here = (unsigned)sched_getcpu();
  uint64_t now[OS_PROCESSORS_MAX / 64] = {0};
  if (here >= OS_PROCESSORS_MAX || placement->avoided == here + 1) return;
  if (syscall(SYS_sched_getaffinity, thread_id, sizeof now, now) < 0) return;
  if (memcmp(now, placement->set, sizeof now) != 0) memcpy(placement->allowed, now, sizeof now);
  memcpy(placement->set, placement->allowed, sizeof now);
  placement->set[here / 64] &= ~(UINT64_C(1) << here % 64);
  if (!is_any(placement->set)) memcpy(placement->set, placement->allowed, sizeof now);
  if (syscall(SYS_sched_setaffinity, thread_id, sizeof now, placement->set) == 0) placement->avoided = here + 1;
}

void os_place_anywhere(uint32_t thread_id, struct os_placement *placement) {
  uint64_t now[OS_PROCESSORS_MAX / 64] = {0};
  if (placement->avoided == 0) return;
  placement->avoided = 0;
  if (syscall(SYS_sched_getaffinity, thread_id, sizeof now, now) < 0) return;
  if (memcmp(now, placement->set, sizeof now) != 0) return;
  syscall(SYS_sched_setaffinity, thread_id, sizeof now, placement->allowed);
}

/* Lives on the stack of start_thread, which waits until the new thread has copied it. */
struct thread_start {
  void (*run)(void *argument);
  void *argument;
  char name[16];
  uint32_t taken; /* atomic; 1 once the new thread is done with this */
};

static void *run_thread(void *opaque) {
  struct thread_start *shared = opaque;
  struct thread_start start = {.run = shared->run, .argument = shared->argument};
  pthread_setname_np(pthread_self(), shared->name);
  atomic_store_release(&shared->taken, 1u);
  /* `shared` may be gone by now.  Waking somebody else's word is harmless, as each sleeper looks again. */
  wake_all(&shared->taken);
  start.run(start.argument);
  return NULL;
}

/* The library's threads need little, which sanitizers multiply.  A program's thread-local variables are carved from each
 * stack too, and may alone need more: pthread_create then refuses with EINVAL. */
static size_t thread_stack_bytes(void) {
  enum { ORDINARY_BYTES = 256 << 10, SANITIZED_BYTES = 2 << 20 };
  size_t bytes = ORDINARY_BYTES;
#if defined(__SANITIZE_ADDRESS__) || THREAD_SANITIZER
  bytes = SANITIZED_BYTES;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
  bytes = SANITIZED_BYTES;
#endif
#endif
  (void)SANITIZED_BYTES;
  long least = sysconf(_SC_THREAD_STACK_MIN);
  return least > 0 ? max_size(bytes, (size_t)least + ORDINARY_BYTES / 2) : bytes;
}

/* `stack_bytes` of 0 leaves the size to the C library. */
static int create_detached(struct thread_start *start, size_t stack_bytes) {
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0) return error;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  if (stack_bytes != 0) pthread_attr_setstacksize(&attributes, stack_bytes);
  pthread_t thread;
  error = pthread_create(&thread, &attributes, run_thread, start);
  pthread_attr_destroy(&attributes);
  return error;
}

static int start_thread(void (*run)(void *argument), void *argument, const char *name, size_t stack_bytes) {
  if (os_linux_fault_due()) return -EAGAIN;
  struct thread_start start = {.run = run, .argument = argument};
  strncpy(start.name, name, sizeof start.name - 1);

  /* A new thread inherits the mask: no signal of the program ever finds it open. */
  sigset_t all;
  sigset_t before;
  fill_blockable_signals(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = create_detached(&start, stack_bytes);
  if (error == EINVAL && stack_bytes != 0) error = create_detached(&start, 0);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error != 0) return -error;
  while (atomic_load_acquire(&start.taken) == 0) wait_on_word(&start.taken, 0);
  return 0;
}

int os_start_thread(void (*run)(void *argument), void *argument, const char *name) {
  return start_thread(run, argument, name, thread_stack_bytes());
}

int os_start_program_thread(void (*run)(void *argument), void *argument, const char *name) {
  return start_thread(run, argument, name, 0);
}

void os_be_patient(void) {
  struct sched_param parameter = {.sched_priority = 0};
  sched_setscheduler(0, SCHED_BATCH, &parameter);
}

/* As the kernel has it since 3.14; C libraries disagree about whether they declare it. */
struct scheduling {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime_ns; /* of the ordinary policies: the length of a turn, 100 us at least */
  uint64_t deadline_ns, period_ns;
};

void os_take_short_turns(void) {
  enum { TURN_NS = 100000 };
  struct scheduling now = {.size = sizeof now};
  if (syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) != 0) return;
  if (now.policy != SCHED_OTHER && now.policy != SCHED_BATCH) return;
  now.runtime_ns = TURN_NS;
  syscall(SYS_sched_setattr, 0, &now, 0);
}

/* A fork's child may inherit that the process is registered, or not. */
int os_order_threads(void) {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0) return 0;
  if (errno != EPERM) return -errno;
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0) return -errno;
  return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0 ? 0 : -errno;
}

/* ---- call stacks ---- */

/* The C library loads the unwinder (libgcc_s) at the first call, so that a program which never asks does not have it. */
size_t os_call_stack(uintptr_t *frames, size_t capacity) {
  int count = backtrace((void **)frames, (int)capacity);
  return count > 0 ? (size_t)count : 0;
}

/* ---- the end of a thread ---- */

/* The C library calls a key's destructor in each thread that ends with a value other than NULL. */
static struct {
  pthread_once_t once;
  pthread_key_t key;
  int error; /* of pthread_key_create */
  void (*function)(void *argument);
} thread_exit = {.once = PTHREAD_ONCE_INIT};

static void create_exit_key(void) { thread_exit.error = pthread_key_create(&thread_exit.key, thread_exit.function); }

int os_on_thread_exit(void (*function)(void *argument), void *argument) {
  atomic_store_relaxed(&thread_exit.function, function); /* the same in every call */
  pthread_once(&thread_exit.once, create_exit_key);
  if (thread_exit.error != 0) return -thread_exit.error;
  return -pthread_setspecific(thread_exit.key, argument);
}

/* ---- processes ---- */

int os_at_exit(void (*function)(void)) { return atexit(function) == 0 ? 0 : -ENOMEM; }

int os_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
  return -pthread_atfork(prepare, parent, child);
}

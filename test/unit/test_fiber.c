/* Fibers and stacks, one behaviour after the other: values, states, what is kept and what is not, and the places where
 * stacks meet the rest of a process: guards, signals, forks, ends of threads, jumps, blocking. */
#define _GNU_SOURCE 1
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>

#include "gc/mark.h"
#include "gc/stacks.h"
#include "mutator/fiber.h"
#include "os/os.h"
#include "span/kind.h"
#include "support/heap_test.h"

struct cell {
  struct cell *next;
  uint64_t value;
};

/* Whether the cell that was armed last still lives; in malloc's memory, so that this keeps nothing. */
static void **weak;

static void arm(struct cell *cell) {
  *weak = (void *)test_hide(cell);
  int error = midden_weak_link(weak, cell, MIDDEN_WEAK_AFTER_FINALIZERS);
  REQUIRE(error == 0 || error == -EEXIST, "midden_weak_link: %d", error);
}

static bool is_alive(void) {
  test_collect_clean();
  return *weak != NULL;
}

NOINLINE_TEST static struct cell *new_cell(uint64_t value) {
  struct cell *cell = midden_alloc(sizeof(*cell));
  REQUIRE(cell != NULL, "out of memory");
  cell->value = value;
  return cell;
}

static struct midden_fiber *new_fiber(midden_fiber_fn *function, void *argument) {
  struct midden_fiber *fiber = midden_fiber_new(function, argument, 0);
  REQUIRE(fiber != NULL && midden_fiber_state(fiber) == MIDDEN_FIBER_SUSPENDED, "no new fiber");
  return fiber;
}

static uintptr_t resume(struct midden_fiber *fiber, uintptr_t value) {
  void *result;
  int error = midden_fiber_resume(fiber, (void *)value, &result);
  REQUIRE(error == 0, "midden_fiber_resume: %d", error);
  return (uintptr_t)result;
}

static uintptr_t yield(uintptr_t value) { return (uintptr_t)midden_fiber_yield((void *)value); }

/* ---- values and states ---- */

static void *add_up(void *argument) {
  uintptr_t sum = (uintptr_t)argument;
  for (int i = 0; i < 3; i++) sum += yield(sum);
  return (void *)(sum * 100);
}

static void test_values(void) {
  struct midden_fiber *fiber = new_fiber(add_up, (void *)1);
  REQUIRE(midden_fiber_current() == NULL, "a fiber runs");
  REQUIRE(resume(fiber, 99) == 1 && resume(fiber, 2) == 3 && resume(fiber, 3) == 6, "wrong values");
  REQUIRE(resume(fiber, 4) == 1000, "wrong result");
  REQUIRE(midden_fiber_state(fiber) == MIDDEN_FIBER_FINISHED, "not finished");
  REQUIRE(midden_fiber_resume(fiber, NULL, NULL) == -EINVAL, "a finished fiber goes on");
  REQUIRE(midden_fiber_resume(NULL, NULL, NULL) == -EINVAL && midden_fiber_switch(NULL, NULL, NULL) == -EINVAL, "NULL");
  REQUIRE(midden_fiber_free(NULL) == 0 && midden_fiber_free(fiber) == 0, "freeing nothing");
  REQUIRE(midden_fiber_new(NULL, NULL, 0) == NULL, "a fiber without a function");
  REQUIRE(midden_fiber_new(add_up, NULL, SIZE_MAX) == NULL && midden_fiber_new(add_up, NULL, SIZE_MAX / 2) == NULL,
          "a stack as large as the address space");
}

/* ---- marked while it switches ---- */

static size_t stack_words;

static void count_word(struct midden_tracer *tracer, uintptr_t word, bool is_stack) {
  (void)tracer, (void)word;
  stack_words += is_stack;
}

static size_t count_stack_words(const struct midden_fiber *fiber) {
  struct midden_tracer tracer = {.mode = MARK_CONCURRENT, .visit = count_word};
  stack_words = 0;
  stacks_mark_fiber(fiber, &tracer);
  return stack_words;
}

static void *count_own_words(void *fiber) { return (void *)count_stack_words(fiber); }

/* A marker that found it suspended may come to its stack when it runs already: no address is known then. */
static void test_marked_while_it_switches(void) {
  struct midden_fiber *fiber = new_fiber(count_own_words, NULL);
  atomic_store_relaxed(&fiber->argument, (void *)fiber);
  REQUIRE(count_stack_words(fiber) > 0, "the stack of a suspended fiber is not read");
  size_t words = resume(fiber, 0);
  REQUIRE(words == 0, "%zu words were read of the stack of a fiber that runs", words);
}

static struct midden_fiber *outer, *inner, *third;

static void *be_inner(void *argument) {
  REQUIRE(midden_fiber_state(outer) == MIDDEN_FIBER_WAITING, "outer does not wait");
  REQUIRE(midden_fiber_current() == inner && midden_fiber_state(inner) == MIDDEN_FIBER_RUNNING, "inner does not run");
  REQUIRE(midden_fiber_resume(outer, NULL, NULL) == -EBUSY && midden_fiber_resume(inner, NULL, NULL) == -EBUSY, "busy");
  REQUIRE(midden_fiber_switch(inner, NULL, NULL) == -EBUSY, "switched to itself");
  REQUIRE(midden_fiber_free(outer) == -EBUSY && midden_fiber_free(inner) == -EBUSY, "freed in use");
  REQUIRE(midden_thread_detach() == -EBUSY, "detached in a fiber");
  midden_collect();
  void *result;
  REQUIRE(midden_fiber_switch(third, (void *)5, &result) == 0 && result == (void *)7, "switch");
  return argument;
}

static void *be_third(void *argument) {
  REQUIRE(midden_fiber_state(inner) == MIDDEN_FIBER_SUSPENDED, "inner is not suspended");
  midden_fiber_finish((void *)6, NULL);
  return argument;
}

static void *be_outer(void *argument) {
  REQUIRE(resume(inner, 0) == 6, "third did not come back to who waited for inner");
  REQUIRE(midden_fiber_state(third) == MIDDEN_FIBER_FINISHED, "third did not finish");
  REQUIRE(resume(inner, 7) == (uintptr_t)argument, "inner did not return");
  struct midden_fiber *heir = new_fiber(add_up, (void *)41);
  midden_fiber_finish(NULL, heir);
  return NULL;
}

static void test_chain(void) {
  outer = new_fiber(be_outer, (void *)8);
  inner = new_fiber(be_inner, (void *)8);
  third = new_fiber(be_third, NULL);
  REQUIRE(resume(outer, 0) == 41, "the heir did not come back to the thread");
  REQUIRE(midden_fiber_state(outer) == MIDDEN_FIBER_FINISHED, "outer did not finish");
  outer = inner = third = NULL;
}

static bool saw_outer;

static void look_for_outer(struct midden_tracer *tracer, uintptr_t word, bool is_stack) {
  (void)tracer;
  if (!is_stack && word == (uintptr_t)outer) saw_outer = true;
}

static void *be_traced(void *argument) {
  struct midden_tracer tracer = {.mode = MARK_PARALLEL, .visit = look_for_outer};
  kind_table[KIND_FIBER].trace(midden_fiber_current(), sizeof(struct midden_fiber), &tracer, NULL);
  return argument;
}

static void *resume_traced(void *argument) {
  resume(new_fiber(be_traced, NULL), 0);
  return argument;
}

/* Nobody else need know who waits for a fiber that runs. */
static void test_who_waits_is_marked(void) {
  outer = new_fiber(resume_traced, NULL);
  resume(outer, 0);
  REQUIRE(saw_outer, "who waits for a fiber is not marked");
  outer = NULL;
}

static void *nest(void *argument) {
  uintptr_t depth = (uintptr_t)argument;
  struct cell *cell = new_cell(depth);
  if (depth == 0) midden_collect();
  uintptr_t below = depth == 0 ? 0 : resume(new_fiber(nest, (void *)(depth - 1)), 0);
  REQUIRE(cell->value == depth, "a waiting fiber lost its cell");
  return (void *)(below + depth);
}

static void test_depth(void) { REQUIRE(resume(new_fiber(nest, (void *)200), 0) == 200 * 201 / 2, "wrong sum"); }

/* ---- what is kept ---- */

NOINLINE_TEST static uint64_t hold(struct cell *cell, uint64_t *sum) {
  *sum += cell->value;
  yield(0);
  return cell->value; /* the cell is known here alone meanwhile */
}

static void *keep_cell(void *argument) {
  uint64_t sum = 0;
  uint64_t seen = hold(argument, &sum);
  REQUIRE(seen == sum, "the cell is damaged");
  yield(1);
  return NULL;
}

static struct midden_fiber *kept; /* a root */

NOINLINE_TEST static void park_one(void) {
  struct cell *cell = new_cell(77);
  arm(cell);
  kept = new_fiber(keep_cell, cell);
}

static void test_kept_by_stack(void) {
  park_one();
  REQUIRE(is_alive(), "what a fiber that has not run was given died");
  resume(kept, 0);
  REQUIRE(is_alive(), "what a parked stack refers to died");
  REQUIRE(resume(kept, 0) == 1, "the fiber did not go on");
  REQUIRE(midden_fiber_free(kept) == 0 && midden_fiber_state(kept) == MIDDEN_FIBER_FINISHED, "not freed");
  REQUIRE(!is_alive(), "the stack of a freed fiber keeps a cell");
}

NOINLINE_TEST static void free_one_that_never_ran(void) {
  struct cell *cell = new_cell(78);
  arm(cell);
  kept = new_fiber(keep_cell, cell);
  REQUIRE(midden_fiber_free(kept) == 0, "not freed");
}

static void test_freed_before_it_ran(void) {
  free_one_that_never_ran();
  REQUIRE(!is_alive(), "a fiber that was freed before it ran keeps what it was given");
  kept = NULL;
}

static void test_unreachable_fiber_dies(void) {
  midden_collect();
  size_t before = test_stats().fibers;
  park_one();
  resume(kept, 0);
  REQUIRE(test_stats().fibers == before + 1 && is_alive(), "the fiber is not there");
  kept = NULL;
  REQUIRE(!is_alive(), "a fiber that nobody knows keeps its cell");
  REQUIRE(test_stats().fibers == before, "%zu fibers", test_stats().fibers);
}

enum { BESIDE = 60, BESIDE_FEW = 10 };

static void *wait_once(void *argument) {
  yield(0);
  return argument;
}

/* One after the other; a stale word may keep a few.  The last is kept. */
NOINLINE_TEST static void park_many(void) {
  for (size_t i = 0; i < BESIDE; i++) {
    kept = new_fiber(wait_once, NULL);
    resume(kept, 0);
  }
}

/* Its address, which lies on its own stack, is also where the one before it ends. */
static void test_keeps_none_beside(void) {
  test_collect_clean();
  size_t before = test_stats().fibers;
  park_many();
  test_collect_clean();
  REQUIRE(test_stats().fibers < before + BESIDE_FEW, "%zu fibers live for one", test_stats().fibers - before);
  kept = NULL;
}

/* A word below the saved stack pointer is no reference. */
NOINLINE_TEST static void leave_in_dead_frame(uintptr_t hidden) {
  void *volatile words[64];
  for (int i = 0; i < 64; i++) words[i] = test_unhide(hidden);
  (void)words[5];
}

NOINLINE_TEST static uintptr_t make_hidden(void) {
  struct cell *cell = new_cell(1);
  arm(cell);
  return test_hide(cell);
}

NOINLINE_TEST static void deepen(int depth, uintptr_t hidden) {
  volatile char room[1024];
  room[0] = 1;
  if (depth > 0) deepen(depth - 1, hidden);
  if (depth == 0) leave_in_dead_frame(hidden);
  room[1] = room[0];
}

/* What calls from here left just below; not as deep as the word is. */
NOINLINE_TEST __attribute__((no_sanitize("address"))) static void scrub_a_little(void) {
  volatile char dead[4096];
  for (size_t i = 0; i < sizeof(dead); i++) dead[i] = 0;
}

static void *leave_dead_word(void *argument) {
  (void)argument;
  deepen(8, make_hidden());
  scrub_a_little();
  yield(0);
  return NULL;
}

static void test_only_used_part_counts(void) {
  kept = new_fiber(leave_dead_word, NULL);
  midden_collect();
  size_t without = test_stats().stacks_scanned;
  resume(kept, 0);
  REQUIRE(!is_alive(), "a dead word below the stack pointer keeps a cell");
  size_t with = test_stats().stacks_scanned;
  REQUIRE(with < without + 4096, "%zu bytes of stacks were scanned before, %zu now", without, with);
  resume(kept, 0);
}

static void *recurse(void *argument) {
  volatile char room[1000];
  room[0] = 1;
  __asm__ volatile("" : : "r"(room) : "memory"); /* or a compiler makes it one byte */
  if (argument == NULL) {
    yield(0);
  } else {
    recurse((void *)((uintptr_t)argument - 1));
  }
  return room[0] != 0 ? NULL : argument;
}

static void test_used_part_is_scanned(void) {
  midden_collect();
  size_t before = test_stats().stacks_scanned;
  kept = new_fiber(recurse, (void *)20);
  resume(kept, 0);
  midden_collect();
  size_t after = test_stats().stacks_scanned;
  /* Not 20000 more than before: a fiber of an earlier test may have been kept by a dead word, and died since. */
  REQUIRE(after >= 20000 && after < before + 60000 && before < 20000, "%zu bytes before, %zu after", before, after);
  resume(kept, 0);
  kept = NULL;
}

/* ---- memory ---- */

static size_t stack_bytes_owned(void) { return test_stats().stacks; }

static void test_stacks_are_reused(void) {
  resume(new_fiber(add_up, NULL), 0);
  midden_release_memory();
  struct midden_fiber *first = new_fiber(be_third, NULL);
  void *low = NULL;
  REQUIRE(midden_fiber_free(first) == 0, "free");
  size_t bytes = stack_bytes_owned();
  for (int i = 0; i < 1000; i++) REQUIRE(midden_fiber_free(new_fiber(add_up, low)) == 0, "free");
  REQUIRE(stack_bytes_owned() == bytes, "%zu bytes of stacks became %zu", bytes, stack_bytes_owned());
  REQUIRE(test_stats().stacks_idle != 0, "no idle stack");
}

static void *finish_large(void *argument) {
  volatile char room[64 << 10];
  for (size_t i = 0; i < sizeof(room); i++) room[i] = 1;
  return argument;
}

static void test_release(void) {
  struct midden_fiber *fiber = midden_fiber_new(finish_large, NULL, 300 << 10);
  REQUIRE(fiber != NULL && midden_fiber_resume(fiber, NULL, NULL) == 0, "a stack of 300 KiB");
  midden_collect();
  midden_release_memory();
  struct midden_stats stats = test_stats();
  REQUIRE(stats.stacks_idle == 0, "%zu bytes idle", stats.stacks_idle);
  REQUIRE(stats.heap_system == stats.heap_in_use + stats.heap_idle + stats.stacks, "bytes are missing");
  REQUIRE(stats.heap_released <= stats.heap_idle, "more is released than idle");
  midden_verify();
  struct cell *cell = new_cell(1); /* pages that were guards are ordinary ones again */
  for (int i = 0; i < 20000; i++) cell->next = midden_alloc(4096), memset(cell->next, 1, 4096);
}

/* Deeper than any stack here. */
static int overflow(int depth) {
  volatile char room[512];
  room[0] = (char)depth;
  return depth == 0 ? 0 : overflow(depth - 1) + room[0];
}

static void *overflow_fiber(void *argument) {
  (void)argument;
  return (void *)(intptr_t)overflow(1 << 20);
}

static int run_into_guard(void *argument) {
  (void)argument;
  resume(new_fiber(overflow_fiber, NULL), 0);
  return 0;
}

static void test_guard(void) {
  struct test_outcome outcome = test_child(run_into_guard, NULL, 20);
  bool segv = WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGSEGV;
  bool told = WIFEXITED(outcome.status) && strstr(outcome.message, "stack-overflow") != NULL;
  REQUIRE(segv || told, "status 0x%x: %s", (unsigned)outcome.status, outcome.message);
}

/* The guard of a stack that is used again, in a child too. */
static int touch_guard(void *argument) {
  *(volatile char *)((char *)argument - 1) = 1;
  return 0;
}

static void test_guard_survives(void) {
  struct midden_stack *stack = midden_stack_alloc(0);
  REQUIRE(stack != NULL && midden_stack_free(stack) == 0, "midden_stack_alloc");
  struct midden_stack *again = midden_stack_alloc(0);
  REQUIRE(again != NULL, "midden_stack_alloc");
  char *low = midden_stack_low(again);
  REQUIRE((char *)midden_stack_high(again) - low >= 64 << 10, "too small");
  low[0] = 1;
  struct test_outcome outcome = test_child(touch_guard, low, 20);
  REQUIRE(!WIFEXITED(outcome.status) || WEXITSTATUS(outcome.status) != 0, "the guard can be written");
  REQUIRE(midden_stack_free(again) == 0, "midden_stack_free");
}

/* ---- the process around ---- */

static jmp_buf place;

static void *jump(void *argument) {
  volatile int count = 0;
  if (setjmp(place) < 3) {
    count++;
    yield(0);
    longjmp(place, count);
  }
  REQUIRE(count == 3, "%d jumps", count);
  return argument;
}

static void test_jumps(void) {
  struct midden_fiber *fiber = new_fiber(jump, (void *)9);
  for (int i = 0; i < 3; i++) REQUIRE(resume(fiber, 0) == 0, "suspended");
  REQUIRE(resume(fiber, 0) == 9, "finished");
}

static void *block(void *argument) {
  struct cell *cell = new_cell(31);
  arm(cell);
  midden_blocking_enter();
  usleep((unsigned)(uintptr_t)argument);
  midden_blocking_leave();
  REQUIRE(cell->value == 31, "the cell of a blocked fiber is damaged");
  return NULL;
}

static void *collect_often(void *argument) {
  for (int i = 0; i < 50; i++) {
    midden_collect();
    for (int j = 0; j < 100; j++) new_cell(0xbad);
  }
  return argument;
}

static void test_blocking(void) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, collect_often, NULL) == 0, "pthread_create");
  resume(new_fiber(block, (void *)20000), 0);
  pthread_join(thread, NULL);
}

static void *end_thread(void *argument) {
  struct cell *cell = new_cell(5);
  arm(cell);
  pthread_exit(argument);
}

static void *run_ending(void *argument) {
  kept = new_fiber(end_thread, argument);
  resume(kept, 0);
  return NULL;
}

static void test_thread_ends_in_fiber(void) {
  pthread_t thread;
  void *result;
  REQUIRE(pthread_create(&thread, NULL, run_ending, (void *)12) == 0, "pthread_create");
  pthread_join(thread, &result);
  REQUIRE(result == (void *)12, "the thread did not end as asked");
  REQUIRE(midden_fiber_state(kept) == MIDDEN_FIBER_LOST, "state %d", midden_fiber_state(kept));
  REQUIRE(midden_fiber_resume(kept, NULL, NULL) == -EOWNERDEAD, "a lost fiber goes on");
  REQUIRE(!is_alive(), "a lost fiber keeps its cell");
  size_t before = test_stats().fibers;
  kept = NULL;
  midden_collect();
  REQUIRE(test_stats().fibers == before - 1, "the stack of a lost fiber stays");
}

static void *suspend_many(void *argument) {
  struct midden_fiber **fibers = argument;
  for (int i = 0; i < 10; i++) {
    fibers[i] = new_fiber(keep_cell, new_cell((uint64_t)i));
    resume(fibers[i], 0);
  }
  return NULL;
}

static void test_fibers_outlive_thread(void) {
  pthread_t thread;
  struct midden_fiber **fibers = midden_alloc(10 * sizeof(*fibers));
  REQUIRE(pthread_create(&thread, NULL, suspend_many, fibers) == 0, "pthread_create");
  pthread_join(thread, NULL);
  collect_often(NULL);
  for (int i = 0; i < 10; i++) REQUIRE(resume(fibers[i], 0) == 1, "the fiber did not go on");
}

static int check_in_child(void *argument) {
  struct midden_fiber **fibers = argument;
  collect_often(NULL);
  REQUIRE(resume(fibers[0], 0) == 1, "a suspended fiber does not go on in the child");
  REQUIRE(midden_fiber_state(fibers[1]) == MIDDEN_FIBER_LOST, "state %d", midden_fiber_state(fibers[1]));
  resume(new_fiber(add_up, NULL), 0);
  midden_verify();
  return 0;
}

static pthread_barrier_t barrier;

static void *wait_in_fiber(void *argument) {
  pthread_barrier_wait(&barrier);
  midden_blocking_enter();
  pthread_barrier_wait(&barrier);
  midden_blocking_leave();
  return argument;
}

static void *run_waiting(void *argument) {
  resume(((struct midden_fiber **)argument)[1], 0);
  return NULL;
}

static void *fork_in_fiber(void *argument) {
  test_child_succeeds("a child of a fiber", check_in_child, argument, 30);
  return NULL;
}

static pid_t forked;

static void *fork_here(void *argument) {
  forked = fork();
  return argument;
}

static void *resume_forking(void *argument) {
  resume(new_fiber(fork_here, NULL), 0);
  return argument;
}

/* The child goes on where the parent does: back to the fiber that waits, and to the thread's own stack. */
static void test_fork_deeper(void) {
  int status;
  resume(new_fiber(resume_forking, NULL), 0);
  REQUIRE(forked >= 0, "fork");
  if (forked == 0) _exit(0);
  while (waitpid(forked, &status, 0) < 0) REQUIRE(errno == EINTR, "waitpid");
  REQUIRE(status == 0, "the child ended with 0x%x", (unsigned)status);
}

static void test_fork(void) {
  pthread_t thread;
  struct midden_fiber **fibers = midden_alloc(2 * sizeof(*fibers));
  fibers[0] = new_fiber(keep_cell, new_cell(3));
  fibers[1] = new_fiber(wait_in_fiber, NULL);
  resume(fibers[0], 0);
  pthread_barrier_init(&barrier, NULL, 2);
  REQUIRE(pthread_create(&thread, NULL, run_waiting, fibers) == 0, "pthread_create");
  pthread_barrier_wait(&barrier);
  test_child_succeeds("a child of a thread", check_in_child, fibers, 30);
  resume(new_fiber(fork_in_fiber, fibers), 0);
  pthread_barrier_wait(&barrier);
  pthread_join(thread, NULL);
  REQUIRE(midden_fiber_state(fibers[1]) == MIDDEN_FIBER_FINISHED, "state %d", midden_fiber_state(fibers[1]));
}

/* ---- signals on an alternate stack ---- */

static struct cell *volatile seen_in_handler;

static void on_signal(int number) {
  (void)number;
  pthread_barrier_wait(&barrier); /* the other thread collects now, and stops this one here */
  pthread_barrier_wait(&barrier);
}

static void *raise_signal(void *argument) {
  struct cell *cell = new_cell(55);
  arm(cell);
  raise(SIGUSR1);
  REQUIRE(cell->value == 55, "the cell of an interrupted fiber is damaged");
  seen_in_handler = cell;
  return argument;
}

static void *collect_between(void *argument) {
  pthread_barrier_wait(&barrier);
  collect_often(NULL);
  pthread_barrier_wait(&barrier);
  return argument;
}

static void test_alternate_stack(void) {
  stack_t alternate = {.ss_sp = malloc(64 << 10), .ss_size = 64 << 10};
  stack_t none = {.ss_flags = SS_DISABLE};
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
  pthread_t thread;
  REQUIRE(sigaltstack(&alternate, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0, "sigaltstack");
  REQUIRE(pthread_create(&thread, NULL, collect_between, NULL) == 0, "pthread_create");
  struct cell *own = new_cell(66); /* on the thread's own stack, which waits meanwhile */
  resume(new_fiber(raise_signal, NULL), 0);
  REQUIRE(own->value == 66, "the thread's own stack was not scanned");
  pthread_join(thread, NULL);
  sigaltstack(&none, NULL);
  free(alternate.ss_sp);
}

/* ---- registered stacks ---- */

NOINLINE_TEST static void put_cell(void **word) {
  struct cell *cell = new_cell(1);
  arm(cell);
  *word = cell;
}

static void test_registered(void) {
  enum { WORDS = 1000 };
  void **memory = calloc(WORDS, sizeof(*memory));
  REQUIRE(midden_stack_register(NULL, memory) == NULL && midden_stack_register(memory, memory) == NULL, "empty");
  struct midden_stack *stack = midden_stack_register(memory, memory + WORDS);
  REQUIRE(stack != NULL && midden_stack_low(stack) == memory && midden_stack_high(stack) == memory + WORDS, "register");
  put_cell(&memory[500]);
  REQUIRE(midden_stack_set_pointer(stack, memory - 1) == -EINVAL, "below");
  REQUIRE(midden_stack_set_pointer(stack, memory + WORDS + 1) == -EINVAL, "above");
  REQUIRE(midden_stack_set_pointer(stack, memory + 500) == 0, "midden_stack_set_pointer");
  REQUIRE(is_alive(), "a cell at the stack pointer died");
  REQUIRE(midden_stack_set_pointer(stack, memory + 501) == 0, "midden_stack_set_pointer");
  REQUIRE(!is_alive(), "a word below the stack pointer keeps a cell");
  REQUIRE(midden_stack_free(stack) == 0 && midden_stack_free(NULL) == 0, "midden_stack_free");
  free(memory);
}

/* ---- misuse ---- */

static int resume_foreign(void *argument) { return midden_fiber_resume(argument, NULL, NULL); }
static int yield_outside(void *argument) { return (int)yield((uintptr_t)argument); }

static int free_fiber_object(void *argument) {
  midden_free(argument);
  return 0;
}

static void *resume_in_lock(void *argument) {
  midden_fiber_resume(argument, NULL, NULL);
  return NULL;
}

static int resume_locked(void *argument) {
  midden_locked_call(resume_in_lock, argument);
  return 0;
}

static int resume_blocking(void *argument) {
  midden_blocking_enter();
  return midden_fiber_resume(argument, NULL, NULL);
}

static void require_message(int (*run)(void *argument), void *argument, const char *message) {
  struct test_outcome outcome = test_child(run, argument, 20);
  REQUIRE(
      WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT && strstr(outcome.message, message) != NULL,
      "status 0x%x instead of \"%s\": %s", (unsigned)outcome.status, message, outcome.message);
}

static void test_misuse(void) {
  struct midden_fiber *fiber = new_fiber(add_up, NULL);
  require_message(resume_foreign, &fiber, "is no fiber");
  require_message(resume_foreign, new_cell(1), "is no fiber");
  require_message(resume_foreign, (char *)fiber + 16, "is no fiber");
  require_message(yield_outside, NULL, "called outside a fiber");
  require_message(free_fiber_object, fiber, "fiber");
  require_message(resume_locked, fiber, "midden_locked_call");
  require_message(resume_blocking, fiber, "blocking");
  REQUIRE(midden_alloc_kind(KIND_FIBER, 64) == NULL, "an object of the library's own kind");
  REQUIRE(midden_realloc(fiber, 1000) == NULL, "a fiber was resized");
}

/* ---- no memory ---- */

static void test_no_memory(void) {
  midden_collect();
  midden_release_memory();
  midden_verify();
  size_t before = test_stats().stacks;
  for (uint32_t nth = 1; nth < 4; nth++) {
    os_fail_after(nth, true);
    struct midden_fiber *fiber = midden_fiber_new(add_up, NULL, 128 << 10);
    os_fail_after(0, false);
    REQUIRE(fiber == NULL || midden_fiber_free(fiber) == 0, "free");
    midden_verify();
  }
  struct midden_fiber *fiber = midden_fiber_new(add_up, NULL, 128 << 10);
  REQUIRE(fiber != NULL && midden_fiber_free(fiber) == 0, "free");
  os_fail_after(1, true);
  midden_release_memory(); /* no guard can be taken away: the stacks stay */
  os_fail_after(0, false);
  REQUIRE(test_stats().stacks_idle != 0, "stacks were lost");
  midden_verify();
  midden_release_memory();
  REQUIRE(test_stats().stacks_idle == 0 && test_stats().stacks == before, "%zu bytes, %zu before", test_stats().stacks,
          before);
}

/* Guards are refused when a process has too many mappings.  While a cycle marks beside the program the span went back as if a stack
 * were freed, which no mark phase allows: "illegal step from stack to free while marking". */
static void test_no_guard_while_marking(void) {
  struct mutator *self = mutator_self();
  midden_release_memory(); /* all is swept: nobody frees a span meanwhile */
  size_t before = test_stats().stacks;
  mutator_enter(self);
  atomic_store_relaxed(&span_marking, true);
  for (uint32_t nth = 1; nth < 6; nth++) {
    os_fail_after(nth, true);
    struct midden_stack *stack = stack_register_new(2 * STACK_CACHED_MOST_BYTES);
    os_fail_after(0, false);
    if (stack != NULL) stack_unregister(stack);
  }
  atomic_store_relaxed(&span_marking, false);
  mutator_leave(self);
  midden_release_memory();
  REQUIRE(test_stats().stacks == before, "%zu bytes, %zu before", test_stats().stacks, before);
}

/* ---- */

#define TEST(name) \
  { #name, test_##name }

int main(void) {
  static const struct {
    const char *name;
    void (*run)(void);
  } tests[] = {TEST(values),
               TEST(marked_while_it_switches),
               TEST(chain),
               TEST(who_waits_is_marked),
               TEST(depth),
               TEST(kept_by_stack),
               TEST(freed_before_it_ran),
               TEST(unreachable_fiber_dies),
               TEST(keeps_none_beside),
               TEST(only_used_part_counts),
               TEST(used_part_is_scanned),
               TEST(stacks_are_reused),
               TEST(release),
               TEST(guard),
               TEST(guard_survives),
               TEST(jumps),
               TEST(blocking),
               TEST(thread_ends_in_fiber),
               TEST(fibers_outlive_thread),
               TEST(fork),
               TEST(fork_deeper),
               TEST(alternate_stack),
               TEST(registered),
               TEST(misuse),
               TEST(no_memory),
               TEST(no_guard_while_marking)};
  test_start("test_fiber");
  alarm(100);
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  weak = calloc(1, sizeof(*weak));
  for (size_t i = 0; i < TEST_COUNT_OF(tests); i++) {
    tests[i].run();
    midden_verify();
    printf("  %s\n", tests[i].name);
    fflush(stdout);
  }
  return 0;
}

/* Coroutines on stacks of their own, switched by swapcontext.
 *
 * The running coroutine's stack is the thread's: midden_thread_set_stack_base tells where it ends.  The suspended ones
 * are reported by the root callback, with the registers that swapcontext saved.  Each coroutine keeps lists that only
 * its stack refers to, lets others run in the middle of building them, and checks them afterwards.
 *
 * Two rules that a program with coroutines must follow are shown here.  Between telling the base and the switch itself
 * no collection may run: one thread alone ensures that by not allocating; among threads the switch happens with
 * collections disabled, and midden_locked_call makes sure that none is in progress.  And the stack of a coroutine that
 * ended is reported no more: what it alone kept is reclaimed, which weak links tell. */
#define _GNU_SOURCE 1
#include "support/heap_test.h"

#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { COROUTINES = 24, SCHEDULERS_MAX = 4, STACK_BYTES = 128 << 10, LIST_LENGTH = 60 };

enum coroutine_state { COROUTINE_NONE, COROUTINE_SUSPENDED, COROUTINE_RUNNING, COROUTINE_ENDED };

struct coroutine {
  ucontext_t context; /* while suspended */
  char *stack;
  enum coroutine_state state;
  struct scheduler *scheduler;
  struct rng rng;
  size_t turns;
  void *weak[2]; /* to the first and last cell of its last list; any value but NULL while armed */
};

/* One for each thread.  In memory from malloc: the collector sees of it what the root callback reports. */
struct scheduler {
  struct coroutine coroutines[COROUTINES];
  struct coroutine *running; /* NULL: the thread's own stack is in use */
  ucontext_t own;            /* the thread's own context while a coroutine runs */
  void *own_base;
  uintptr_t own_pointer; /* the thread's stack from here to its base is suspended while a coroutine runs */
  struct rng rng;
  bool among_threads;
  size_t switches, ended;
};

static struct scheduler *schedulers[SCHEDULERS_MAX];
static size_t turns_each;

/* ---- roots ---- */

static void report_coroutine(struct midden_tracer *tracer, const struct coroutine *coroutine) {
  if (coroutine->state != COROUTINE_SUSPENDED) return;
  midden_trace_range(tracer, coroutine->stack, coroutine->stack + STACK_BYTES);
  midden_trace_range(tracer, &coroutine->context, &coroutine->context + 1);
}

static void report_schedulers(struct midden_tracer *tracer, void *argument) {
  (void)argument;
  for (size_t i = 0; i < SCHEDULERS_MAX; i++) {
    const struct scheduler *scheduler = schedulers[i];
    if (scheduler == NULL) continue;
    for (size_t j = 0; j < COROUTINES; j++) report_coroutine(tracer, &scheduler->coroutines[j]);
    if (scheduler->running == NULL) continue;
    midden_trace_range(tracer, (void *)scheduler->own_pointer, scheduler->own_base);
    midden_trace_range(tracer, &scheduler->own, &scheduler->own + 1);
  }
}

/* ---- switching ---- */

static void *disable_collections(void *argument) {
  midden_disable();
  return argument;
}

static void switch_begin(const struct scheduler *scheduler) {
  if (scheduler->among_threads) midden_locked_call(disable_collections, NULL);
}

/* Runs on the stack that was switched to. */
static void switch_end(const struct scheduler *scheduler) {
  if (scheduler->among_threads) midden_enable();
}

NOINLINE_TEST static void resume(struct scheduler *scheduler, struct coroutine *coroutine) {
  switch_begin(scheduler);
  coroutine->state = COROUTINE_RUNNING;
  scheduler->running = coroutine;
  scheduler->own_base = midden_thread_stack_base();
  /* swapcontext runs below this frame; what it saves of the caller is in the context. */
  scheduler->own_pointer = ((uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)15) - 512;
  midden_thread_set_stack_base(coroutine->stack + STACK_BYTES);
  swapcontext(&scheduler->own, &coroutine->context);
  REQUIRE(midden_thread_stack_base() == scheduler->own_base, "the thread's stack base was lost");
  switch_end(scheduler);
  scheduler->switches++;
}

NOINLINE_TEST static void leave(struct coroutine *coroutine, enum coroutine_state state) {
  struct scheduler *scheduler = coroutine->scheduler;
  switch_begin(scheduler);
  coroutine->state = state;
  scheduler->running = NULL;
  midden_thread_set_stack_base(scheduler->own_base);
  swapcontext(&coroutine->context, &scheduler->own);
  switch_end(scheduler);
}

/* ---- what coroutines do ---- */

struct cell {
  struct cell *next;
  uint64_t value;
};

static void maybe_yield(struct coroutine *coroutine) {
  if (rng_one_in(&coroutine->rng, 30)) leave(coroutine, COROUTINE_SUSPENDED);
}

/* Builds a list that only this frame knows, with others running in between. */
NOINLINE_TEST static struct cell *list_build(struct coroutine *coroutine, uint64_t seed) {
  struct cell *list = NULL;
  for (uint64_t i = 0; i < LIST_LENGTH; i++) {
    struct cell *cell = midden_alloc(sizeof(*cell));
    REQUIRE(cell != NULL, "out of memory");
    REQUIRE(cell->next == NULL && cell->value == 0, "memory is not zeroed");
    *cell = (struct cell){list, test_mix(seed + i)};
    list = cell;
    maybe_yield(coroutine);
  }
  return list;
}

NOINLINE_TEST static struct cell *list_check(const struct cell *list, uint64_t seed) {
  const struct cell *last = NULL;
  for (uint64_t i = LIST_LENGTH; i-- > 0; list = list->next) {
    REQUIRE(list != NULL && list->value == test_mix(seed + i), "cell %p of a coroutine's list is damaged",
            (const void *)list);
    last = list;
  }
  REQUIRE(list == NULL, "a coroutine's list does not end");
  return (struct cell *)(uintptr_t)last;
}

static void arm_weak(void **link, struct cell *cell) {
  *link = (void *)test_hide(cell);
  int error = midden_weak_link(link, cell, MIDDEN_WEAK_AFTER_FINALIZERS);
  REQUIRE(error == 0 || error == -EEXIST, "midden_weak_link: %d", error);
}

NOINLINE_TEST static void coroutine_turn(struct coroutine *coroutine) {
  uint64_t seeds[2] = {rng_next(&coroutine->rng), rng_next(&coroutine->rng)};
  struct cell *first = list_build(coroutine, seeds[0]);
  struct cell *second = list_build(coroutine, seeds[1]);
  leave(coroutine, COROUTINE_SUSPENDED);
  list_check(first, seeds[0]);
  struct cell *last = list_check(second, seeds[1]);
  arm_weak(&coroutine->weak[0], second);
  arm_weak(&coroutine->weak[1], last);
  maybe_yield(coroutine);
  list_check(first, seeds[0]);
  list_check(second, seeds[1]);
}

static void coroutine_main(unsigned high, unsigned low) {
  struct coroutine *coroutine = (struct coroutine *)((uintptr_t)high << 32 | low);
  switch_end(coroutine->scheduler);
  while (coroutine->turns-- != 0) coroutine_turn(coroutine);
  leave(coroutine, COROUTINE_ENDED);
  REQUIRE(false, "a coroutine that ended was resumed");
}

static void coroutine_start(struct scheduler *scheduler, struct coroutine *coroutine) {
  coroutine->scheduler = scheduler;
  coroutine->rng.state = rng_next(&scheduler->rng);
  coroutine->turns = 1 + rng_below(&scheduler->rng, turns_each);
  if (coroutine->stack == NULL) {
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(stack != MAP_FAILED, "mmap: %s", strerror(errno));
    coroutine->stack = stack;
  }
  getcontext(&coroutine->context);
  coroutine->context.uc_stack.ss_sp = coroutine->stack;
  coroutine->context.uc_stack.ss_size = STACK_BYTES;
  coroutine->context.uc_link = NULL;
  uintptr_t address = (uintptr_t)coroutine;
  makecontext(&coroutine->context, (void (*)(void))(uintptr_t)coroutine_main, 2, (unsigned)(address >> 32),
              (unsigned)address);
  coroutine->state = COROUTINE_SUSPENDED;
}

/* ---- the scheduler ---- */

static size_t schedule_round(struct scheduler *scheduler) {
  size_t alive = 0;
  for (size_t i = 0; i < COROUTINES; i++) {
    struct coroutine *coroutine = &scheduler->coroutines[rng_below(&scheduler->rng, COROUTINES)];
    if (coroutine->state == COROUTINE_SUSPENDED) resume(scheduler, coroutine);
  }
  for (size_t i = 0; i < COROUTINES; i++) alive += scheduler->coroutines[i].state == COROUTINE_SUSPENDED;
  return alive;
}

/* Garbage between the turns takes the place of what was reclaimed too early. */
NOINLINE_TEST static void litter(struct rng *rng) {
  for (int i = 0; i < 200; i++) {
    struct cell *cell = midden_alloc(sizeof(*cell));
    REQUIRE(cell != NULL, "out of memory");
    cell->value = 0xbadbadbadbadbad;
  }
  if (rng_one_in(rng, 20)) midden_collect();
}

NOINLINE_TEST static void schedule_all(struct scheduler *scheduler) {
  for (size_t i = 0; i < COROUTINES; i++) coroutine_start(scheduler, &scheduler->coroutines[i]);
  while (schedule_round(scheduler) != 0) litter(&scheduler->rng);
  for (size_t i = 0; i < COROUTINES; i++) scheduler->ended += scheduler->coroutines[i].state == COROUTINE_ENDED;
  REQUIRE(scheduler->ended == COROUTINES, "%zu coroutines ended", scheduler->ended);
}

/* Every coroutine has ended: what their stacks kept must go, but for what a stale word keeps here. */
static void check_reclaimed(struct scheduler *scheduler) {
  size_t left = 0;
  for (int i = 0; i < 2; i++) test_collect_clean();
  for (size_t i = 0; i < COROUTINES; i++) {
    for (int link = 0; link < 2; link++) left += scheduler->coroutines[i].weak[link] != NULL;
  }
  REQUIRE(left <= 4, "%zu of %d cells of ended coroutines are still alive", left, 2 * COROUTINES);
}

static struct scheduler *scheduler_new(struct rng *rng, bool among_threads) {
  struct scheduler *scheduler = calloc(1, sizeof(*scheduler));
  REQUIRE(scheduler != NULL, "the test itself is out of memory");
  scheduler->rng.state = rng_next(rng);
  scheduler->among_threads = among_threads;
  return scheduler;
}

static void scheduler_delete(struct scheduler *scheduler) {
  for (size_t i = 0; i < COROUTINES; i++) {
    for (int link = 0; link < 2; link++) {
      midden_weak_unlink(&scheduler->coroutines[i].weak[link], MIDDEN_WEAK_AFTER_FINALIZERS);
    }
    if (scheduler->coroutines[i].stack != NULL) munmap(scheduler->coroutines[i].stack, STACK_BYTES);
  }
  free(scheduler);
}

static void run_alone(struct rng *rng) {
  schedulers[0] = scheduler_new(rng, false);
  schedule_all(schedulers[0]);
  check_reclaimed(schedulers[0]);
  printf("  alone: %zu switches\n", schedulers[0]->switches);
  scheduler_delete(schedulers[0]);
  schedulers[0] = NULL;
}

static void *scheduler_thread(void *argument) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  schedule_all(argument);
  return NULL;
}

static void run_among_threads(struct rng *rng) {
  pthread_t threads[SCHEDULERS_MAX];
  size_t switches = 0;
  for (size_t i = 0; i < SCHEDULERS_MAX; i++) schedulers[i] = scheduler_new(rng, true);
  for (size_t i = 0; i < SCHEDULERS_MAX; i++) {
    REQUIRE(pthread_create(&threads[i], NULL, scheduler_thread, schedulers[i]) == 0, "pthread_create");
  }
  for (size_t i = 0; i < SCHEDULERS_MAX; i++) pthread_join(threads[i], NULL);
  for (size_t i = 0; i < SCHEDULERS_MAX; i++) {
    check_reclaimed(schedulers[i]);
    switches += schedulers[i]->switches;
    scheduler_delete(schedulers[i]);
    schedulers[i] = NULL;
  }
  printf("  among threads: %zu switches\n", switches);
}

int main(void) {
  struct rng rng = test_start("test_coroutines");
  turns_each = test_steps(4000);
  alarm(240); /* a hang is a failure too */
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  midden_set_root_callback(report_schedulers, NULL);
  run_alone(&rng);
  run_among_threads(&rng);
  midden_verify();
  printf("test_coroutines: %" PRIu64 " collections\n", test_stats().collections);
  return 0;
}

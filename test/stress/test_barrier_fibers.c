/* Fibers and registered stacks in barrier mode.
 *
 * Fibers take packages (support/package.h) out of shared places by exchange and suspend with them: the only reference lies
 * on a stack that nobody runs on.  Any thread resumes any fiber, so what one thread was scanned with goes on under
 * another.  Values travel with resume, yield and switch; fibers resume private ones and are dropped half way, with what
 * they hold.
 *
 * Words of a registered stack that nobody runs on are places too: the program stores there through the barrier.
 *
 * Coroutines of swapcontext do the same on stacks of the library's, each thread its own. */
#define _GNU_SOURCE 1
#include "support/barrier_rig.h"
#include "support/coroutine.h"
#include "support/package.h"

/* Neither sanitizer follows swapcontext. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool has_coroutines = false;
#else
static const bool has_coroutines = true;
#endif

enum { PLACES = 40, STACK_PLACES = 24, POOL = 24, PACKAGES = 30, COROUTINES = 6 };

static void *places[PLACES];
static midden_word *stack_places; /* STACK_PLACES words, registered as a parked stack */
static void *pool[POOL];          /* fibers */

static size_t resumed, finished; /* atomic */

/* ---- places ---- */

/* Functions that may suspend call these and touch no thread-local variable themselves, as the counters of support/nodes.h
 * are: they may go on in another thread. */

static void *random_place(struct rng *rng) {
  size_t i = rng_below(rng, PLACES + STACK_PLACES);
  return i < PLACES ? (void *)&places[i] : (void *)&stack_places[i - PLACES];
}

/* A package that finds no empty place is dropped. */
NOINLINE_TEST static void put(struct rng *rng, void *name) {
  if (name != NULL && rng_one_in(rng, 2)) name = package_wrap(name);
  for (int tries = 0; name != NULL && tries < 20; tries++) name = node_exchange(random_place(rng), name);
}

NOINLINE_TEST static void *take(struct rng *rng) { return package_unwrap(rng, node_exchange(random_place(rng), NULL)); }

NOINLINE_TEST static void check(const void *name) { package_check(name); }

NOINLINE_TEST static void *cut(const void *name, size_t slot) {
  return node_exchange(node_slot(node_check(name), slot), NULL);
}

NOINLINE_TEST static void tie(const void *name, size_t slot, const void *child) {
  node_store(node_slot(node_check(name), slot), child);
}

NOINLINE_TEST static bool has_children(const void *name) {
  return name != NULL && package_depth(node_check(name)->serial) != 0;
}

NOINLINE_TEST static struct midden_fiber *random_fiber(struct rng *rng) {
  return __atomic_load_n(&pool[rng_below(rng, POOL)], __ATOMIC_ACQUIRE);
}

/* ---- what fibers do ---- */

/* Suspends; what it hands over has a new owner then, and so has what it gets. */
NOINLINE_TEST static void suspend(struct rng *rng, void *name) {
  struct midden_fiber *other = random_fiber(rng);
  void *value;
  if (rng_one_in(rng, 4) && other != NULL && midden_fiber_switch(other, name, &value) == 0) {
    put(rng, value);
  } else {
    put(rng, midden_fiber_yield(name));
  }
}

/* A package on each of `depth` frames. */
NOINLINE_TEST static void descend(struct rng *rng, size_t depth) {
  void *name = take(rng);
  if (depth != 0) {
    descend(rng, depth - 1);
  } else {
    suspend(rng, NULL);
  }
  if (rng_one_in(rng, 3)) check(name);
  if (rng_one_in(rng, 8)) suspend(rng, NULL);
  put(rng, name);
}

/* Suspends with a package that is in pieces. */
NOINLINE_TEST static void turn(struct rng *rng) {
  void *name = take(rng);
  if (has_children(name)) {
    void *first = cut(name, 0), *second = cut(name, 1);
    suspend(rng, NULL);
    tie(name, 0, second);
    tie(name, 1, first);
    check(name);
  }
  put(rng, name);
}

static void *fiber_run(void *argument);

static struct midden_fiber *fiber_new(struct rng *rng) {
  struct midden_fiber *fiber = midden_fiber_new(fiber_run, (void *)(uintptr_t)(rng_next(rng) >> 8), 0);
  REQUIRE(fiber != NULL, "no fiber");
  return fiber;
}

/* A fiber that only this frame knows; forgotten with what it holds, unless it finishes. */
NOINLINE_TEST static void use_private(struct rng *rng) {
  struct midden_fiber *fiber = fiber_new(rng);
  for (size_t i = rng_below(rng, 6); i-- > 0;) {
    void *result = NULL;
    if (midden_fiber_resume(fiber, NULL, &result) != 0) return;
    put(rng, result);
  }
}

static void *fiber_run(void *argument) {
  struct rng rng = {(uintptr_t)argument};
  for (size_t turns = 1 + rng_below(&rng, 12); turns-- > 0;) {
    size_t choice = rng_below(&rng, 12);
    if (choice == 0) {
      use_private(&rng);
    } else if (choice < 3) {
      suspend(&rng, take(&rng));
    } else if (choice < 7) {
      turn(&rng);
    } else {
      descend(&rng, rng_size(&rng, 40));
    }
  }
  __atomic_fetch_add(&finished, 1, __ATOMIC_RELAXED);
  return take(&rng);
}

/* ---- what threads do ---- */

NOINLINE_TEST static void resume_any(struct rng *rng) {
  void **slot = &pool[rng_below(rng, POOL)];
  void *fiber = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
  if (fiber == NULL || rng_one_in(rng, 100)) {
    node_store(slot, fiber_new(rng)); /* the old one is dropped */
    return;
  }
  void *value = rng_one_in(rng, 4) ? take(rng) : NULL, *result = NULL;
  int error = midden_fiber_resume(fiber, value, &result);
  REQUIRE(error == 0 || error == -EBUSY || error == -EINVAL, "midden_fiber_resume: %d", error);
  put(rng, error == 0 ? result : value);
  if (error == -EINVAL) midden_cas(slot, &fiber, fiber_new(rng));
  if (error == 0) __atomic_fetch_add(&resumed, 1, __ATOMIC_RELAXED);
}

/* Dropped fibers take packages with them: makes new ones while most places are empty. */
NOINLINE_TEST static void refill(struct rng *rng) {
  void *name = NULL;
  for (int tries = 0; name == NULL && tries < 2; tries++) name = take(rng);
  check(name);
  put(rng, name != NULL ? name : package_new(rng));
}

/* ---- coroutines of swapcontext ---- */

NOINLINE_TEST static void coroutine_descend(struct coroutine *self, size_t depth) {
  void *name = take(&self->rng);
  if (depth != 0) {
    coroutine_descend(self, depth - 1);
  } else {
    coroutine_leave(self);
  }
  check(name);
  put(&self->rng, name);
}

static void coroutine_main(void) {
  struct coroutine *self = coroutine_begin();
  for (size_t turns = rng_below(&self->rng, 10); turns-- > 0;) coroutine_descend(self, rng_size(&self->rng, 20));
  coroutine_end(self);
}

/* Of this thread, in memory from malloc. */
static void coroutine_step(struct coroutine *coroutine, struct rng *rng) {
  if (coroutine->stack == NULL || coroutine->ended) coroutine_start(coroutine, rng, coroutine_main);
  coroutine_enter(coroutine);
}

static void coroutines_finish(struct coroutine *coroutines) {
  for (size_t i = 0; i != COROUTINES; i++) {
    if (coroutines[i].stack == NULL) continue;
    while (!coroutines[i].ended) coroutine_enter(&coroutines[i]);
    REQUIRE(midden_stack_free(coroutines[i].stack) == 0, "midden_stack_free");
  }
  free(coroutines);
}

/* ---- start ---- */

static void *wait_in_kernel(void *argument) {
  rig_pause_us((size_t)(uintptr_t)argument);
  return NULL;
}

NOINLINE_TEST static void switch_stacks(struct rig_thread *self) {
  struct rng rng = self->rng;
  struct coroutine *coroutines = calloc(COROUTINES, sizeof(*coroutines));
  REQUIRE(coroutines != NULL, "the test itself is out of memory");
  for (size_t i = 0; i < rig_steps; i++) {
    rig_step();
    if (rng_one_in(&rng, 8)) refill(&rng);
    if (rng_one_in(&rng, 200)) midden_blocking_call(wait_in_kernel, (void *)(uintptr_t)rng_below(&rng, 500));
    if (rng_one_in(&rng, 2000)) midden_collect();
    if (has_coroutines && rng_one_in(&rng, 2)) {
      coroutine_step(&coroutines[rng_below(&rng, COROUTINES)], &rng);
    } else {
      resume_any(&rng);
    }
  }
  coroutines_finish(coroutines);
}

static void run(struct rng *rng) {
  stack_places = aligned_alloc(16, STACK_PLACES * sizeof(*stack_places));
  REQUIRE(stack_places != NULL, "the test itself is out of memory");
  memset(stack_places, 0, STACK_PLACES * sizeof(*stack_places));
  struct midden_stack *stack = midden_stack_register(stack_places, stack_places + STACK_PLACES);
  REQUIRE(stack != NULL && midden_stack_set_pointer(stack, stack_places) == 0, "midden_stack_register");
  for (int i = 0; i < PACKAGES; i++) put(rng, package_new(rng));
  rig_run_threads(rng, switch_stacks, NULL);
  for (int i = 0; i < 1000; i++) check(take(rng));
  node_clear_range(places, PLACES);
  node_clear_range(stack_places, STACK_PLACES);
  node_clear_range(pool, POOL);
  REQUIRE(midden_stack_free(stack) == 0, "midden_stack_free");
  for (int i = 0; i < 3; i++) test_collect_clean();
  struct midden_stats stats = test_stats();
  REQUIRE(stats.objects < 1000 && stats.fibers < 20, "%zu objects and %zu fibers are left when nothing refers to them",
          stats.objects, stats.fibers);
  REQUIRE(resumed > finished && finished > 0, "%zu times resumed, %zu finished", resumed, finished);
}

int main(int count, char **arguments) {
  static const struct rig_test test = {
      .name = "test_barrier_fibers", .steps = 30000, .run = run, .option = node_option};
  return rig_main(&test, count, arguments);
}

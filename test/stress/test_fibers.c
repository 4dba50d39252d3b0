/* Fibers that move between threads while others collect.
 *
 * A pool of fibers in static data, of which each thread resumes whichever it meets: two may want the same, and one of them
 * hears that it is busy.  Fibers build lists that only their stacks refer to, at changing depths, let others run in the
 * middle of it, resume private fibers, and check what they built on whatever thread they go on.  One thread does nothing
 * but collect, so that stop signals fall everywhere, in the middle of switches too.  Finished fibers are replaced, some are
 * dropped or freed half way.
 *
 * Ten thousand parked fibers, shallow and deep: a collection reads the used parts of their stacks and no more.
 *
 * The same lists on stacks of our own that swapcontext switches. */
#define _GNU_SOURCE 1
#include "midden/barrier.h"
#include "support/coroutine.h"
#include "support/heap_test.h"

#include <pthread.h>

/* The thread sanitizer knows some 8000 threads and fibers at most, and neither knows swapcontext. */
#if defined(__SANITIZE_ADDRESS__)
static const bool is_address_sanitizer = true;
#else
static const bool is_address_sanitizer = false;
#endif
#if defined(__SANITIZE_THREAD__)
static const bool is_thread_sanitizer = true;
#else
static const bool is_thread_sanitizer = false;
#endif

enum { THREADS = 3, POOL = 48, LIST_LENGTH = 40, PARKED = 10000, COROUTINES = 16 };

struct cell {
  struct cell *next;
  uint64_t value;
};

static struct midden_fiber *pool[POOL]; /* atomic; a root */
static size_t turns_each;
static bool is_over, may_end;        /* atomic */
static unsigned begun;               /* atomic; threads */
static size_t finished, moved, busy; /* atomic */

/* ---- lists ---- */

static void let_others_run(struct rng *rng) {
  if (midden_fiber_current() != NULL && rng_one_in(rng, 25)) midden_fiber_yield(NULL);
}

NOINLINE_TEST static struct cell *list_build(struct rng *rng, uint64_t seed) {
  struct cell *list = NULL;
  for (uint64_t i = 0; i < LIST_LENGTH; i++) {
    struct cell *cell = midden_alloc(sizeof(*cell));
    REQUIRE(cell != NULL && cell->next == NULL && cell->value == 0, "no clean cell");
    *cell = (struct cell){list, test_mix(seed + i)};
    list = cell;
    let_others_run(rng);
  }
  return list;
}

NOINLINE_TEST static void list_check(const struct cell *list, uint64_t seed) {
  for (uint64_t i = LIST_LENGTH; i-- > 0; list = list->next)
    REQUIRE(list != NULL && list->value == test_mix(seed + i), "cell %p of a fiber's list is damaged",
            (const void *)list);
  REQUIRE(list == NULL, "a fiber's list does not end");
}

/* A list on each of `depth` frames. */
NOINLINE_TEST static void work(struct rng *rng, unsigned depth) {
  uint64_t seed = rng_next(rng);
  struct cell *list = list_build(rng, seed);
  if (depth != 0) work(rng, depth - 1);
  list_check(list, seed);
}

static void *private_run(void *argument) {
  struct rng rng = {(uintptr_t)argument};
  work(&rng, 1);
  return argument;
}

static void use_private(struct rng *rng) {
  uintptr_t seed = rng_next(rng);
  struct midden_fiber *fiber = midden_fiber_new(private_run, (void *)seed, 0);
  REQUIRE(fiber != NULL, "no fiber");
  while (midden_fiber_state(fiber) == MIDDEN_FIBER_SUSPENDED) {
    void *result;
    REQUIRE(midden_fiber_resume(fiber, NULL, &result) == 0, "a private fiber is not ours");
    REQUIRE(result == NULL || result == (void *)seed, "a wrong result");
    if (rng_one_in(rng, 10)) return; /* forgotten */
  }
}

static void *pool_run(void *argument) {
  struct rng rng = {(uintptr_t)argument};
  for (size_t turn = rng_below(&rng, 6); turn-- > 0;) {
    work(&rng, (unsigned)rng_below(&rng, 8));
    if (rng_one_in(&rng, 4)) use_private(&rng);
  }
  __atomic_fetch_add(&finished, 1, __ATOMIC_RELAXED);
  return NULL;
}

/* ---- threads ---- */

static void replace(struct rng *rng, size_t i, struct midden_fiber *old) {
  struct midden_fiber *fresh = midden_fiber_new(pool_run, (void *)(uintptr_t)rng_next(rng), 0);
  REQUIRE(fresh != NULL, "no fiber");
  midden_cas(&pool[i], &old, fresh);
}

NOINLINE_TEST static void turn(struct rng *rng) {
  size_t i = rng_below(rng, POOL);
  struct midden_fiber *fiber = __atomic_load_n(&pool[i], __ATOMIC_ACQUIRE);
  if (fiber != NULL && rng_one_in(rng, 200)) {
    int error = midden_fiber_free(fiber);
    REQUIRE(error == 0 || error == -EBUSY, "midden_fiber_free: %d", error);
  }
  int error = fiber == NULL ? -EINVAL : midden_fiber_resume(fiber, NULL, NULL);
  REQUIRE(error == 0 || error == -EBUSY || error == -EINVAL, "midden_fiber_resume: %d", error);
  if (error == -EINVAL) replace(rng, i, fiber);
  __atomic_fetch_add(error == 0 ? &moved : &busy, 1, __ATOMIC_RELAXED);
}

/* Before it is attached a thread may hold no object: nobody looks at its stack. */
static void begin(void) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  __atomic_fetch_add(&begun, 1, __ATOMIC_ACQ_REL);
}

static void *thread_run(void *argument) {
  struct rng rng = {(uintptr_t)argument};
  begin();
  for (size_t i = 0; i < turns_each; i++) turn(&rng);
  while (!__atomic_load_n(&may_end, __ATOMIC_ACQUIRE)) usleep(200);
  return NULL;
}

static void *thread_collect(void *argument) {
  begin();
  while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
    midden_collect();
    usleep(200);
  }
  return argument;
}

/* A fork in the middle: the child goes on with the fibers that were suspended. */
static int go_on_in_child(void *argument) {
  struct rng rng = {(uintptr_t)argument};
  for (size_t i = 0; i < POOL; i++) {
    int error = pool[i] == NULL ? 0 : midden_fiber_resume(pool[i], NULL, NULL);
    REQUIRE(error == 0 || error == -EOWNERDEAD || error == -EINVAL, "midden_fiber_resume in a child: %d", error);
    if (rng_one_in(&rng, 10)) midden_collect();
  }
  midden_verify();
  return 0;
}

static void run_threads(struct rng *rng) {
  pthread_t threads[THREADS], collecting;
  REQUIRE(pthread_create(&collecting, NULL, thread_collect, NULL) == 0, "pthread_create");
  for (size_t i = 0; i < THREADS; i++) {
    uintptr_t seed = rng_next(rng);
    REQUIRE(pthread_create(&threads[i], NULL, thread_run, (void *)seed) == 0, "pthread_create");
  }
  /* No thread begins or ends while another forks: it may hold locks of a sanitizer's, which a child would never get. */
  while (__atomic_load_n(&begun, __ATOMIC_ACQUIRE) != THREADS + 1) usleep(200);
  for (int i = 0; i < 5; i++) {
    usleep(10000);
    test_child_succeeds("a child", go_on_in_child, (void *)(uintptr_t)rng_next(rng), 60);
  }
  __atomic_store_n(&may_end, true, __ATOMIC_RELEASE);
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  __atomic_store_n(&is_over, true, __ATOMIC_RELEASE);
  pthread_join(collecting, NULL);
  printf("  %zu times resumed, %zu not, %zu finished\n", moved, busy, finished);
  REQUIRE(finished > 0 && moved > finished, "nothing happened");
}

/* ---- many ---- */

NOINLINE_TEST static void descend(uintptr_t depth, struct cell *cell) {
  /* Filled, or what an earlier fiber left on this stack would keep fibers alive, and their stacks others. */
  volatile char room[256];
  for (size_t i = 0; i < sizeof(room); i++) room[i] = (char)depth;
  if (depth == 0) {
    midden_fiber_yield(NULL);
  } else {
    descend(depth - 1, cell);
  }
  REQUIRE(cell->value == 4711 && room[0] == (char)depth, "a parked fiber's cell is damaged");
}

static void *park(void *argument) {
  struct cell *cell = midden_alloc(sizeof(*cell));
  REQUIRE(cell != NULL, "out of memory");
  cell->value = 4711;
  descend((uintptr_t)argument, cell);
  return NULL;
}

static void run_many(uintptr_t depth) {
  struct midden_fiber **fibers = midden_alloc(PARKED * sizeof(*fibers));
  size_t before = test_stats().fibers;
  for (size_t i = 0; i < PARKED; i++) {
    fibers[i] = midden_fiber_new(park, (void *)depth, 0);
    REQUIRE(fibers[i] != NULL && midden_fiber_resume(fibers[i], NULL, NULL) == 0, "fiber %zu", i);
  }
  midden_collect();
  struct midden_stats stats = test_stats();
  size_t each = stats.stacks_scanned / PARKED;
  printf("  %d fibers, depth %zu: %zu bytes of each stack read, pause %.1f ms\n", PARKED, (size_t)depth, each,
         (double)stats.pause_last_ns / 1e6);
  REQUIRE(stats.fibers >= PARKED && stats.fibers <= before + PARKED, "%zu fibers", stats.fibers);
  REQUIRE(each >= depth * 256 && each < depth * (is_address_sanitizer ? 2048 : 1024) + 4096,
          "%zu bytes of each stack were read", each);
  for (size_t i = 0; i < PARKED; i += 7) REQUIRE(midden_fiber_resume(fibers[i], NULL, NULL) == 0, "fiber %zu", i);
  midden_clear_range(fibers, PARKED);
  for (int i = 0; i < 2; i++) test_collect_clean();
  REQUIRE(test_stats().fibers < 100, "%zu fibers are left", test_stats().fibers);
}

/* ---- stacks of our own, switched by swapcontext ---- */

static void coroutine_main(void) {
  struct coroutine *self = coroutine_begin();
  for (int turns = 20; turns-- > 0;) {
    uint64_t seed = rng_next(&self->rng);
    struct cell *list = list_build(&self->rng, seed);
    coroutine_leave(self);
    list_check(list, seed);
  }
  coroutine_end(self);
}

static void *run_coroutines(void *argument) {
  struct rng rng = {(uintptr_t)argument};
  struct coroutine *coroutines = calloc(COROUTINES, sizeof(*coroutines)); /* not scanned */
  for (size_t i = 0; i < COROUTINES; i++) coroutine_start(&coroutines[i], &rng, coroutine_main);
  for (size_t left = COROUTINES; left != 0;) {
    struct coroutine *next = &coroutines[rng_below(&rng, COROUTINES)];
    if (next->ended) continue;
    coroutine_enter(next);
    left -= next->ended;
  }
  for (size_t i = 0; i < COROUTINES; i++) REQUIRE(midden_stack_free(coroutines[i].stack) == 0, "midden_stack_free");
  free(coroutines);
  return NULL;
}

static void run_own_switch(struct rng *rng) {
  pthread_t threads[THREADS], collecting;
  is_over = false;
  REQUIRE(pthread_create(&collecting, NULL, thread_collect, NULL) == 0, "pthread_create");
  for (size_t i = 0; i < THREADS; i++) {
    uintptr_t seed = rng_next(rng);
    REQUIRE(pthread_create(&threads[i], NULL, run_coroutines, (void *)seed) == 0, "pthread_create");
  }
  for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  __atomic_store_n(&is_over, true, __ATOMIC_RELEASE);
  pthread_join(collecting, NULL);
}

int main(void) {
  struct rng rng = test_start("test_fibers");
  turns_each = test_steps(4000);
  alarm(300);
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  run_threads(&rng);
  midden_clear_range(pool, POOL);
  if (!is_thread_sanitizer) {
    run_many(0);
    run_many(30);
  }
  if (!is_thread_sanitizer && !is_address_sanitizer) run_own_switch(&rng);
  midden_verify();
  printf("test_fibers: %" PRIu64 " collections\n", test_stats().collections);
  return 0;
}

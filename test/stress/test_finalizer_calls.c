/* Finalizers that do what programs do in them, in every mode: what they find, where they are called, and what they may call.
 *
 * Each case runs in a process of its own, since it is about the first cycles, callbacks or forks. */
#define _GNU_SOURCE 1
#include <pthread.h>

#include "support/heap_test.h"

enum { LIVE_NODES = 200000, FINALIZERS = 20000, SECONDS = 120 };

static enum midden_mode mode; /* of the case */
static void **live;           /* so that cycles run beside the program */

static void start(void) {
  struct midden_options options = {
      .size = sizeof(options), .mode = mode, .min_heap_bytes = 2 << 20, .idle_collect_ms = -1, .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  live = midden_alloc(LIVE_NODES * sizeof(void *));
  for (size_t i = 0; i < LIVE_NODES; i++) live[i] = midden_alloc(32);
}

static void *new_object(size_t bytes) {
  void *object = midden_alloc(bytes);
  REQUIRE(object != NULL, "out of memory");
  return object;
}

static void finalize_by(void *object, midden_finalizer_fn *function, enum midden_finalizer_order order) {
  REQUIRE(midden_finalizer_set(object, function, NULL, order, NULL, NULL) == 0, "midden_finalizer_set");
}

static size_t runs; /* atomic */

static void count_run(void *object, void *argument) {
  (void)object, (void)argument;
  __atomic_fetch_add(&runs, 1, __ATOMIC_RELAXED);
}

/* ---- what is behind a trace function is whole ---- */

struct traced {
  uint64_t *payload;
  uint64_t number;
};

static void trace(void *object, size_t size, struct midden_tracer *tracer, void *argument) {
  (void)size, (void)argument;
  midden_trace(tracer, ((struct traced *)object)->payload);
}

static const struct midden_type traced_type = {.name = "traced", .size = sizeof(struct traced), .trace = trace};

static void check_payload(void *object, void *argument) {
  const struct traced *traced = *(struct traced **)object;
  for (size_t i = 0; i < 8; i++)
    REQUIRE(traced->payload[i] == test_mix(traced->number), "what a finalizer reaches was lost");
  count_run(object, argument);
}

NOINLINE_TEST static void make_traced(uint64_t number) {
  struct traced **object = new_object(32);
  *object = midden_alloc_type(&traced_type);
  (*object)->payload = new_object(8 * sizeof(uint64_t));
  (*object)->number = number;
  for (size_t i = 0; i < 8; i++) (*object)->payload[i] = test_mix(number);
  finalize_by(object, check_payload, MIDDEN_FINALIZE_UNORDERED);
}

static void traced_objects_are_whole(void) {
  for (uint64_t i = 0; i < 1000; i++) make_traced(i);
  test_collect_clean();
  for (int i = 0; i < 100000; i++) memset(new_object(64), 0x55, 64);
  while (midden_finalizers_run(100) != 0) continue;
  REQUIRE(runs > 900, "%zu of 1000 finalizers have run", runs);
}

/* ---- one frees what another is about to finalize ---- */

struct parent {
  struct parent *child;
  uint64_t words[3];
};

static void free_child(void *object, void *argument) {
  struct parent *parent = object, *child = parent->child;
  count_run(object, argument);
  if (child == NULL) return;
  parent->child = NULL;
  if (((uintptr_t)child >> 5) % 2 == 0) {
    midden_free(child);
  } else {
    midden_finalizer_set(child, NULL, NULL, MIDDEN_FINALIZE_UNORDERED, NULL, NULL);
  }
}

NOINLINE_TEST static void make_families(size_t count, enum midden_finalizer_order order) {
  for (size_t i = 0; i < count; i++) {
    struct parent *child = new_object(sizeof(*child)), *parent = new_object(sizeof(*parent));
    parent->child = child;
    finalize_by(parent, free_child, order);
    finalize_by(child, free_child, order);
  }
}

static bool is_over; /* atomic */

static void *run_finalizers(void *argument) {
  while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) midden_finalizers_run(1000);
  return argument;
}

static void finalizers_free_each_other(void) {
  static const enum midden_finalizer_order orders[] = {MIDDEN_FINALIZE_UNORDERED, MIDDEN_FINALIZE_UNREACHABLE,
                                                       MIDDEN_FINALIZE_ORDERED};
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, run_finalizers, NULL) == 0, "pthread_create");
  for (size_t round = 0; round < 12; round++) {
    make_families(FINALIZERS, orders[round % TEST_COUNT_OF(orders)]);
    midden_collect();
  }
  __atomic_store_n(&is_over, true, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  midden_verify();
  REQUIRE(runs != 0, "no finalizer has run");
}

/* ---- none is called where the program holds a lock ---- */

static pthread_mutex_t mutex; /* notices who takes it twice */
static size_t inside;         /* atomic; finalizers called with it held */

static void take_mutex(void *object, void *argument) {
  count_run(object, argument);
  if (pthread_mutex_lock(&mutex) == EDEADLK) {
    __atomic_fetch_add(&inside, 1, __ATOMIC_RELAXED);
  } else {
    pthread_mutex_unlock(&mutex);
  }
}

NOINLINE_TEST static void make_some(size_t count, midden_finalizer_fn *function) {
  for (size_t i = 0; i < count; i++) finalize_by(new_object(32), function, MIDDEN_FINALIZE_UNORDERED);
}

static void *litter(void *argument) {
  for (size_t i = 0; !__atomic_load_n(&is_over, __ATOMIC_ACQUIRE); i++) {
    new_object(64);
    if (i % 10000 == 0) make_some(10, take_mutex);
  }
  return argument;
}

static void hear(enum midden_event event, void *argument) { (void)event, (void)argument; }
static void run_all(void *argument) { midden_finalizers_run(SIZE_MAX), (void)argument; }
static void *do_nothing(void *argument) { return argument; }

static int end_at_once(void *argument) {
  (void)argument;
  return 0;
}

static void none_is_called_with_a_lock_held(void) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_init(&mutex, &attributes);
  midden_set_event_callback(hear, NULL);
  midden_set_finalizer_notify(run_all, NULL);
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, litter, NULL) == 0, "pthread_create");
  for (int i = 0; i < 10000; i++) {
    pthread_mutex_lock(&mutex);
    midden_locked_call(do_nothing, NULL);
    if (i % 500 == 0) test_child_succeeds("a child", end_at_once, NULL, SECONDS);
    pthread_mutex_unlock(&mutex);
    if (i % 100 == 0) usleep(100);
  }
  __atomic_store_n(&is_over, true, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  REQUIRE(inside == 0, "%zu of %zu finalizers were called with the program's mutex held", inside, runs);
}

/* ---- the program is told of them, whoever ended the cycle ---- */

static size_t told, resumed; /* atomic */

static void note_told(void *argument) {
  (void)argument;
  if (midden_finalizers_ready()) __atomic_fetch_add(&told, 1, __ATOMIC_RELEASE);
}

static void note_resumed(enum midden_event event, void *argument) {
  (void)argument;
  if (event == MIDDEN_EVENT_RESUMED) __atomic_fetch_add(&resumed, 1, __ATOMIC_RELEASE);
}

/* So many that they are settled after the stop, while the only thread of the program allocates nothing for longer than the
 * driver waits for it. */
static void the_program_is_told(void) {
  midden_collect();
  midden_set_event_callback(note_resumed, NULL);
  midden_set_finalizer_notify(note_told, NULL);
  resumed = 0;
  make_some(FINALIZERS, count_run);
  while (__atomic_load_n(&resumed, __ATOMIC_ACQUIRE) == 0 && __atomic_load_n(&told, __ATOMIC_ACQUIRE) == 0)
    new_object(64);
  for (uint64_t i = 0; i < 2500 && told == 0; i++) usleep(1000);
  for (size_t i = 0; i < 10000 && told == 0; i++) new_object(64);
  REQUIRE(told != 0, "finalizers are ready, and nobody was told");
}

/* ---- one may collect ---- */

static void collect_once(void *object, void *argument) {
  if (runs == 0) midden_collect();
  count_run(object, argument);
}

static void a_finalizer_may_collect(void) {
  midden_set_finalizer_notify(run_all, NULL);
  make_some(10, collect_once);
  test_collect_clean();
  test_collect_clean();
  REQUIRE(runs != 0, "no finalizer has run");
}

/* ---- handlers of a fork that use the heap ---- */

enum { LARGE = 20 };
static void *large[LARGE];

static void make_large(void) {
  for (size_t i = 0; i < LARGE; i++) {
    large[i] = midden_alloc_data(4 << 20);
    REQUIRE(large[i] != NULL, "out of memory");
    memset(large[i], 1, 4 << 20);
  }
}

static void free_large(void) {
  for (size_t i = 0; i < LARGE; i++) midden_free(large[i]), large[i] = NULL;
}

/* Called before the library's own in the child, and after it in the parent. */
static void fork_handlers_may_free(void) {
  make_large();
  test_child_succeeds("a child", end_at_once, NULL, SECONDS);
  REQUIRE(large[0] == NULL, "no handler was called");
}

/* ---- all of them ---- */

static const struct {
  const char *name;
  void (*run)(void);
  void (*prepare)(void), (*child)(void); /* handlers of forks, registered before the library starts */
} cases[] = {
    {"traced objects are whole", traced_objects_are_whole, NULL, NULL},
    {"finalizers free each other", finalizers_free_each_other, NULL, NULL},
    {"none is called with a lock held", none_is_called_with_a_lock_held, NULL, NULL},
    {"the program is told", the_program_is_told, NULL, NULL},
    {"a finalizer may collect", a_finalizer_may_collect, NULL, NULL},
    {"fork handlers may free", fork_handlers_may_free, free_large, free_large},
};

static int run_case(void *argument) {
  size_t i = (size_t)(uintptr_t)argument;
  if (cases[i].prepare != NULL) pthread_atfork(cases[i].prepare, NULL, cases[i].child);
  start();
  cases[i].run();
  return 0;
}

int main(void) {
  static const enum midden_mode modes[] = {MIDDEN_MODE_STW, MIDDEN_MODE_DIRTY, MIDDEN_MODE_BARRIER};
  test_start("test_finalizer_calls");
  for (size_t m = 0; m < TEST_COUNT_OF(modes); m++) {
    for (size_t i = 0; i < TEST_COUNT_OF(cases); i++) {
      mode = modes[m];
      test_child_succeeds(cases[i].name, run_case, (void *)(uintptr_t)i, SECONDS);
    }
  }
  return 0;
}

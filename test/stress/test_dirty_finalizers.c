/* What only finalizers reach, in dirty-page mode: it is marked after the stop, while the program runs.
 *
 * Threads hold trees, lists of some megabytes among them, whose roots have finalizers; drop them, find them again by weak
 * references, or do not; and run finalizers, which check every node.  Of each root a record tells whether a thread holds it.
 *
 *     a root that is held      is whole, its finalizer has not run
 *     a weak reference         leads to it as long as its finalizer is not due; then the thread holds it again
 *     a finalizer that runs    finds its root whole, for the first time, and held by nobody
 *     a link of AFTER_FINALIZERS, of which some have one, leads to it until then
 *
 * The linker (--wrap, see cmake/tests.cmake) puts steps of this file where the library leaves the stop: two cycles of three do so
 * however little there is, one before finalizers that are due were found and one after, and the program gets some time there.  "callbacks": a thread of the program ends the cycles. */
#define _GNU_SOURCE 1
#include "support/heap_test.h"

#include <pthread.h>

enum { THREADS = 3, HELD = 24, DEPTH_MAX = 7, LIST_LENGTH = 60000, PAUSE_US = 300, LINKED_ONE_IN = 300 };

/* ---- steps of the library ---- */

bool __real_settle_takes_long(void);
bool __wrap_settle_takes_long(void);
size_t __real_settle_find_finalizers_stw(void);
size_t __wrap_settle_find_finalizers_stw(void);
void __real_settle_end_stw(void);
void __wrap_settle_end_stw(void);
void __real_settle_end_running(void);
void __wrap_settle_end_running(void);

static size_t asked, found; /* atomic; how often the two below were called */
static size_t left, kept;   /* atomic; cycles whose stop was left, or not */

static void pause_us(size_t us) {
  struct timespec time = {0, (long)us * 1000};
  nanosleep(&time, NULL);
}

bool __wrap_settle_takes_long(void) {
  return __atomic_fetch_add(&asked, 1, __ATOMIC_RELAXED) % 3 == 0 || __real_settle_takes_long();
}

size_t __wrap_settle_find_finalizers_stw(void) {
  size_t count = __real_settle_find_finalizers_stw();
  return __atomic_fetch_add(&found, 1, __ATOMIC_RELAXED) % 2 == 0 ? SIZE_MAX : count;
}

void __wrap_settle_end_stw(void) {
  __atomic_fetch_add(&kept, 1, __ATOMIC_RELAXED);
  __real_settle_end_stw();
}

void __wrap_settle_end_running(void) {
  __atomic_fetch_add(&left, 1, __ATOMIC_RELAXED);
  pause_us(PAUSE_US);
  __real_settle_end_running();
  pause_us(PAUSE_US);
}

/* ---- trees ---- */

struct node {
  struct node *left, *right;
  uint64_t value;
  uint64_t sum; /* of the value and both subtrees */
};

static uint64_t node_sum(const struct node *node) {
  uint64_t left_sum = node->left == NULL ? 1 : node->left->sum, right_sum = node->right == NULL ? 2 : node->right->sum;
  return test_mix(node->value + 3 * left_sum + 5 * right_sum);
}

static struct node *node_new(uint64_t value, struct node *left_node, struct node *right_node) {
  struct node *node = midden_alloc(sizeof(*node));
  REQUIRE(node != NULL, "out of memory");
  REQUIRE(node->left == NULL && node->right == NULL && node->sum == 0, "memory is not zeroed");
  *node = (struct node){left_node, right_node, value, 0};
  node->sum = node_sum(node);
  return node;
}

NOINLINE_TEST static struct node *tree_new(struct rng *rng, unsigned depth) {
  if (depth == 0) return NULL;
  struct node *first = tree_new(rng, depth - 1);
  return node_new(rng_next(rng), first, tree_new(rng, depth - 1));
}

static struct node *list_new(struct rng *rng, size_t length) {
  struct node *list = NULL;
  while (length-- > 0) list = node_new(rng_next(rng), list, NULL);
  return list;
}

static void tree_check(const struct node *node) {
  for (; node != NULL; node = node->left) {
    REQUIRE(node->sum == node_sum(node), "node %p is damaged", (const void *)node);
    tree_check(node->right);
  }
}

/* ---- roots that are watched ---- */

enum hold { HELD_BY_THREAD, DROPPED, GONE };

/* In memory from malloc. */
struct record {
  uint32_t hold;     /* atomic; enum hold */
  uint32_t runs;     /* atomic; of the finalizer */
  bool has_link;     /* constant */
  struct node *link; /* of some: cleared when the root is gone for good */
};

static size_t made, finalized; /* atomic */

static void finalize(void *object, void *argument) {
  struct record *record = argument;
  tree_check(object);
  REQUIRE(__atomic_load_n(&record->hold, __ATOMIC_ACQUIRE) != HELD_BY_THREAD, "%p is finalized, and held", object);
  REQUIRE(__atomic_add_fetch(&record->runs, 1, __ATOMIC_ACQ_REL) == 1, "%p is finalized twice", object);
  REQUIRE(!record->has_link || record->link == object, "the link to %p was cleared before its finalizer ran", object);
  __atomic_fetch_add(&finalized, 1, __ATOMIC_RELAXED);
}

struct keeper {
  struct rng rng;
  pthread_t thread;
  struct record *record[HELD]; /* NULL: the place is empty */
};

/* Objects: HELD places each for the roots and for weak references to them.  Arrays in the heap: their pages count. */
static void **roots_of[THREADS], **weaks_of[THREADS];
static size_t keepers_running; /* atomic */

/* Where such a link leads to what died the stop is not left. */
static void link_after(struct record *record, struct node *root) {
  record->has_link = true;
  record->link = root;
  int error = midden_weak_link((void **)&record->link, root, MIDDEN_WEAK_AFTER_FINALIZERS);
  REQUIRE(error == 0, "midden_weak_link: %d", error);
}

NOINLINE_TEST static void make(struct keeper *self, size_t number, size_t at) {
  static const enum midden_finalizer_order orders[] = {MIDDEN_FINALIZE_ORDERED, MIDDEN_FINALIZE_UNORDERED,
                                                       MIDDEN_FINALIZE_IGNORE_SELF, MIDDEN_FINALIZE_UNREACHABLE};
  struct rng *rng = &self->rng;
  struct record *record = calloc(1, sizeof *record);
  REQUIRE(record != NULL, "out of memory");
  struct node *below = rng_one_in(rng, 40) ? list_new(rng, rng_below(rng, LIST_LENGTH))
                                           : tree_new(rng, (unsigned)rng_below(rng, DEPTH_MAX));
  struct node *root = node_new(rng_next(rng), below, NULL);
  int error = midden_finalizer_set(root, finalize, record, orders[rng_below(rng, TEST_COUNT_OF(orders))], NULL, NULL);
  REQUIRE(error == 0, "midden_finalizer_set: %d", error);
  if (rng_one_in(rng, LINKED_ONE_IN)) link_after(record, root);
  __atomic_fetch_add(&made, 1, __ATOMIC_RELAXED);
  weaks_of[number][at] = midden_weak_new(root);
  roots_of[number][at] = root;
  self->record[at] = record;
}

/* The other way around its finalizer could run between the two. */
static void drop(struct keeper *self, size_t number, size_t at) {
  __atomic_store_n(&self->record[at]->hold, DROPPED, __ATOMIC_RELAXED);
  __atomic_store_n(&roots_of[number][at], NULL, __ATOMIC_RELEASE);
}

/* By the weak reference. */
NOINLINE_TEST static void find_again(struct keeper *self, size_t number, size_t at) {
  struct record *record = self->record[at];
  struct node *root = midden_weak_get(weaks_of[number][at]);
  if (root == NULL) {
    __atomic_store_n(&record->hold, GONE, __ATOMIC_RELEASE);
    self->record[at] = NULL;
    return;
  }
  REQUIRE(__atomic_load_n(&record->runs, __ATOMIC_ACQUIRE) == 0, "a finalized object is found again");
  __atomic_store_n(&record->hold, HELD_BY_THREAD, __ATOMIC_RELEASE);
  roots_of[number][at] = root;
  if (rng_one_in(&self->rng, 4)) tree_check(root);
}

static void *visit(void *argument) {
  struct rng rng = {(uintptr_t)argument};
  tree_check(tree_new(&rng, 3));
  return NULL;
}

static void visit_by_thread(struct rng *rng) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, visit, (void *)(uintptr_t)rng_next(rng)) == 0, "pthread_create");
  pthread_join(thread, NULL);
}

static void step(struct keeper *self, size_t number) {
  struct rng *rng = &self->rng;
  size_t at = rng_below(rng, HELD);
  const struct record *record = self->record[at];
  if (record == NULL) {
    make(self, number, at);
  } else if (record->hold == HELD_BY_THREAD) {
    if (rng_one_in(rng, 3)) tree_check(roots_of[number][at]);
    if (rng_one_in(rng, 2)) drop(self, number, at);
  } else if (rng_one_in(rng, 3)) {
    find_again(self, number, at);
  }
  if (rng_one_in(rng, 20)) midden_finalizers_run(rng_below(rng, 50));
  if (rng_one_in(rng, 200)) visit_by_thread(rng);
  if (rng_one_in(rng, 400)) midden_collect();
}

NOINLINE_TEST static void keep(struct keeper *self, size_t number, size_t steps) {
  roots_of[number] = midden_alloc(HELD * sizeof(void *));
  weaks_of[number] = midden_alloc(HELD * sizeof(void *));
  REQUIRE(roots_of[number] != NULL && weaks_of[number] != NULL, "out of memory");
  for (size_t i = 0; i < steps; i++) step(self, number);
  for (size_t i = 0; i < HELD; i++) {
    tree_check(roots_of[number][i]);
    if (self->record[i] != NULL) drop(self, number, i);
  }
}

static struct keeper keepers[THREADS];

/* What such a link leads to lives as long as the program. */
static struct record lasting;

NOINLINE_TEST static void link_to_lasting(struct rng *rng) {
  static struct node *root;
  root = tree_new(rng, 1);
  link_after(&lasting, root);
}

static void *keeper_main(void *argument) {
  struct keeper *self = argument;
  keep(self, (size_t)(self - keepers), test_steps(40000));
  __atomic_fetch_sub(&keepers_running, 1, __ATOMIC_RELEASE);
  return NULL;
}

/* ---- start ---- */

static size_t events; /* atomic */

static void hear(enum midden_event event, void *argument) {
  (void)argument, (void)event;
  __atomic_fetch_add(&events, 1, __ATOMIC_RELAXED);
}

static void run_keepers(struct rng *rng) {
  keepers_running = THREADS;
  for (size_t i = 0; i < THREADS; i++) {
    keepers[i].rng.state = rng_next(rng);
    REQUIRE(pthread_create(&keepers[i].thread, NULL, keeper_main, &keepers[i]) == 0, "pthread_create");
  }
  while (__atomic_load_n(&keepers_running, __ATOMIC_ACQUIRE) != 0) {
    pause_us(rng_below(rng, 10000));
    midden_verify();
  }
  for (size_t i = 0; i < THREADS; i++) pthread_join(keepers[i].thread, NULL);
}

static void run_all_finalizers(void) {
  for (int tries = 0; tries < 20 && finalized != made; tries++) {
    test_collect_clean();
    while (midden_finalizers_run(SIZE_MAX) != 0) continue;
  }
  REQUIRE(finalized == made, "%zu of %zu finalizers have run", finalized, made);
}

static int run(void *argument) {
  bool callbacks = argument != NULL;
  struct rng rng = {test_mix(test_seed_value + callbacks)};
  struct midden_options options = {.size = sizeof(options),
                                   .mode = MIDDEN_MODE_DIRTY,
                                   .brief_stop_us = -1,
                                   .min_heap_bytes = 1 << 20,
                                   .percent = 30,
                                   .markers = 1 + (unsigned)rng_below(&rng, 2),
                                   .debug = MIDDEN_DEBUG_CHECK | MIDDEN_DEBUG_VERIFY,
                                   .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  alarm(240);
  if (callbacks) midden_set_event_callback(hear, NULL);
  link_to_lasting(&rng);
  run_keepers(&rng);
  run_all_finalizers();
  midden_verify();
  struct midden_stats stats = test_stats();
  if (stats.mode != MIDDEN_MODE_DIRTY) return TEST_SKIPPED;
  printf("  %s: %" PRIu64 " collections, the stop of %zu was left; %zu finalizers\n",
         callbacks ? "callbacks" : "no callbacks", stats.collections, left, finalized);
  fflush(stdout);
  REQUIRE((events != 0) == callbacks, "%zu events", events);
  REQUIRE(left != 0 && kept != 0, "%zu stops were left, %zu were not", left, kept);
  return 0;
}

int main(void) {
  test_start("test_dirty_finalizers");
  static char callbacks;
  void *const arguments[] = {NULL, &callbacks};
  for (size_t i = 0; i < TEST_COUNT_OF(arguments); i++) {
    struct test_outcome outcome = test_child(run, arguments[i], 300);
    if (WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == TEST_SKIPPED) return TEST_SKIPPED;
    REQUIRE(outcome.status == 0, "status 0x%x: %s", (unsigned)outcome.status, outcome.message);
  }
  return 0;
}

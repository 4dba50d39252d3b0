/* Packages that move between threads in barrier mode, and threads that come, go, block and fork meanwhile.
 *
 * Every package (support/package.h) has one owner or lies in one place: a static slot, a slot of a large array, an added
 * root, a variable in the frame of some thread.  Threads take and leave them by exchange, so that the only reference
 * travels through everything that the collector scans at different times; hide them in thread-local storage, in root
 * objects, in deep recursion and in the frames of blocked threads; hand them to newborn threads, which detach, attach,
 * exit.  The main thread forks: the child, wherever the cycle was, must find what lies in places whole, and collect.
 *
 * At the end as many packages lie about as were made and not dropped. */
#define _GNU_SOURCE 1
#include "support/barrier_rig.h"
#include "support/package.h"

enum {
  STATICS = 24,
  SHELVES = 3,
  SHELF_SLOTS = 20000,
  SHELF_PLACES = 12,
  ADDED = 16,
  BAG = 6,
  DEPTH_MAX = 300,
  ROOTS = 3
};

static void *statics[STATICS];
static void *shelves[SHELVES];          /* large nodes, which stay */
static midden_word *added;              /* ADDED words from malloc, added as roots */
static void *inbox_of[RIG_THREADS_MAX]; /* atomic: the address of a thread's inbox, which is no heap pointer */
static pthread_barrier_t ready, over;   /* inboxes are valid in between */
static size_t package_limit;

static _Thread_local void *local_slot;

struct carrier {
  struct rng rng;
  void *bag[BAG]; /* packages, not wrapped */
  uintptr_t hidden_roots[ROOTS];
  size_t number;
};

/* ---- places ---- */

/* A random place: a slot that all threads use by exchange.  An address in an array keeps the array. */
static void *random_place(struct rng *rng) {
  size_t i = rng_below(rng, STATICS + ADDED + SHELVES * SHELF_PLACES + rig_thread_count);
  if (i < STATICS) return &statics[i];
  if ((i -= STATICS) < ADDED) return &added[i];
  if ((i -= ADDED) < SHELVES * SHELF_PLACES) {
    const struct node *shelf = node_check(node_load(&shelves[i % SHELVES]));
    return node_slot(shelf, SHELF_SLOTS / SHELF_PLACES * (i / SHELVES));
  }
  i -= SHELVES * SHELF_PLACES;
  return __atomic_load_n(&inbox_of[i], __ATOMIC_ACQUIRE);
}

/* Leaves a package in some place that is empty, wrapped or not. */
NOINLINE_TEST static void put(struct rng *rng, void *name) {
  if (name == NULL) return;
  if (rng_one_in(rng, 2)) name = package_wrap(name);
  while (name != NULL) name = node_exchange(random_place(rng), name);
}

NOINLINE_TEST static void *take(struct rng *rng) { return package_unwrap(rng, node_exchange(random_place(rng), NULL)); }

static size_t packages_alive(void) {
  size_t gone = __atomic_load_n(&packages_gone, __ATOMIC_ACQUIRE);
  return __atomic_load_n(&packages_made, __ATOMIC_ACQUIRE) - gone;
}

/* ---- operations ---- */

static void **random_bag(struct carrier *self) { return &self->bag[rng_below(&self->rng, BAG)]; }

static void op_exchange(struct carrier *self) {
  void **bag = random_bag(self);
  void *name = rng_one_in(&self->rng, 3) ? package_wrap(*bag) : *bag;
  *bag = NULL;
  *bag = package_unwrap(&self->rng, node_exchange(random_place(&self->rng), name));
  if (rng_one_in(&self->rng, 4)) package_check(*bag);
}

static void op_make(struct carrier *self) {
  void **bag = random_bag(self);
  if (*bag != NULL || packages_alive() >= package_limit) return;
  *bag = package_new(&self->rng);
}

static void op_drop(struct carrier *self) {
  void **bag = random_bag(self);
  package_check(*bag);
  if (rng_one_in(&self->rng, 2)) {
    package_free(*bag);
  } else {
    package_dropped(*bag);
  }
  *bag = NULL;
}

static void meanwhile(struct rng *rng) {
  if (rng_one_in(rng, 300)) midden_collect();
  for (size_t i = rng_size(rng, 30); i-- > 0;) REQUIRE(midden_alloc(rng_size(rng, 300)) != NULL, "out of memory");
}

static void op_turn(struct carrier *self) { package_turn(&self->rng, *random_bag(self), meanwhile); }

static void op_resize(struct carrier *self) {
  void **bag = random_bag(self);
  *bag = package_resize(&self->rng, *bag);
}

static void op_local(struct carrier *self) {
  void **bag = random_bag(self);
  *bag = node_exchange(&local_slot, *bag);
  package_check(*bag);
}

/* A root object takes a package into hiding; it is freed while it holds what was read from it. */
static void op_root(struct carrier *self) {
  void **bag = random_bag(self);
  uintptr_t *hidden = &self->hidden_roots[rng_below(&self->rng, ROOTS)];
  struct node *old = test_unhide(*hidden), *fresh = node_new(NODE_ROOT, 1);
  node_fill(fresh, 0, *bag);
  *hidden = test_hide(fresh);
  *bag = node_load(node_slot(old, 0));
  midden_free(old);
  if (rng_one_in(&self->rng, 2)) package_check(*bag);
}

static void op_inbox(struct carrier *self) {
  void **bag = random_bag(self);
  void *place = __atomic_load_n(&inbox_of[self->number], __ATOMIC_ACQUIRE);
  if (*bag == NULL) *bag = package_unwrap(&self->rng, node_exchange(place, NULL));
}

NOINLINE_TEST static void descend(struct rng *rng, size_t depth) {
  void *name = take(rng);
  if (depth != 0) {
    descend(rng, depth - 1);
  } else {
    meanwhile(rng);
  }
  if (name != NULL && rng_one_in(rng, 4)) package_check(name);
  put(rng, name);
}

static void op_descend(struct carrier *self) { descend(&self->rng, rng_size(&self->rng, DEPTH_MAX)); }

static void *wait_in_kernel(void *argument) {
  rig_pause_us((size_t)(uintptr_t)argument);
  return NULL;
}

static void op_block(struct carrier *self) {
  void *volatile name = take(&self->rng);
  size_t us = rng_one_in(&self->rng, 8) ? rng_below(&self->rng, 3000) : rng_below(&self->rng, 50);
  if (rng_one_in(&self->rng, 2)) {
    midden_blocking_call(wait_in_kernel, (void *)us);
  } else {
    midden_blocking_enter();
    wait_in_kernel((void *)us);
    midden_blocking_leave();
  }
  /* The fresh wrapper is never scanned in this cycle: what it holds was seen on the way, or never. */
  void *wrapped = package_wrap(name);
  name = NULL;
  put(&self->rng, wrapped);
}

static void op_collect(struct carrier *self) {
  (void)self;
  midden_collect();
}

/* ---- newborn threads ---- */

/* A thread may only be given a heap pointer through the barrier, so this lies in the frame of its creator. */
struct birth {
  struct rng rng;
  size_t number;
  void *package;
};

static size_t births; /* atomic */

NOINLINE_TEST static void newborn_life(struct birth *birth) {
  struct rng *rng = &birth->rng;
  node_begin_thread(birth->number);
  void *name = node_exchange(&birth->package, NULL);
  package_check(name);
  package_turn(rng, name, meanwhile);
  if (rng_one_in(rng, 3)) name = node_exchange(&local_slot, name);
  if (rng_one_in(rng, 3)) descend(rng, rng_size(rng, 20));
  put(rng, name);
  put(rng, node_exchange(&local_slot, NULL));
  if (rng_one_in(rng, 5)) midden_collect();
}

static void *newborn_main(void *argument) {
  struct birth *birth = argument;
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  newborn_life(birth);
  rig_thread_over();
  if (rng_one_in(&birth->rng, 3)) {
    REQUIRE(midden_thread_detach() == 0, "midden_thread_detach");
    if (rng_one_in(&birth->rng, 2)) return NULL;
    REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
    put(&birth->rng, take(&birth->rng));
    rig_thread_over();
  }
  if (rng_one_in(&birth->rng, 3)) pthread_exit(NULL);
  return NULL;
}

/* Touches the heap never, or only by being attached. */
static void *stranger_main(void *argument) {
  if (((uintptr_t)argument & 1) != 0) REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  rig_pause_us((uintptr_t)argument & 127);
  return NULL;
}

/* Nobody is signalled under the thread sanitizer: a collection that the other thread waits for would wait for this one. */
#if defined(__SANITIZE_THREAD__)
enum { BLOCKS_ALWAYS = 1 };
#else
enum { BLOCKS_ALWAYS = 0 };
#endif

static void join(struct rng *rng, pthread_t thread) {
  bool is_blocking = rng_one_in(rng, 2) || BLOCKS_ALWAYS;
  if (is_blocking) midden_blocking_enter();
  pthread_join(thread, NULL);
  if (is_blocking) midden_blocking_leave();
}

NOINLINE_TEST static void op_thread(struct carrier *self) {
  struct birth birth = {.rng = {rng_next(&self->rng)}, .package = take(&self->rng)};
  birth.number = RIG_THREADS_MAX + 1 + __atomic_fetch_add(&births, 1, __ATOMIC_RELAXED);
  bool is_stranger = rng_one_in(&self->rng, 4);
  void *argument = is_stranger ? (void *)(uintptr_t)rng_next(&self->rng) : &birth;
  pthread_t thread;
  int error = pthread_create(&thread, NULL, is_stranger ? stranger_main : newborn_main, argument);
  REQUIRE(error == 0, "pthread_create: %s", strerror(error));
  for (int i = 0; i < 3; i++) put(&self->rng, take(&self->rng));
  join(&self->rng, thread);
  put(&self->rng, node_exchange(&birth.package, NULL));
}

/* ---- the child of a fork ---- */

static void check_place(void *place) {
  struct node *node = node_check(node_load(place));
  while (node != NULL && node_slots(node) == 1) node = node_check(node_load(node_slot(node, 0)));
  package_check(node_name(node));
}

static size_t check_places(void) {
  size_t filled = 0;
  for (size_t i = 0; i < STATICS; i++) check_place(&statics[i]), filled += statics[i] != NULL;
  for (size_t i = 0; i < ADDED; i++) check_place(&added[i]), filled += added[i] != NULL;
  for (size_t i = 0; i < SHELVES * SHELF_PLACES; i++) {
    const struct node *shelf = node_check(node_load(&shelves[i % SHELVES]));
    void *slot = node_slot(shelf, SHELF_SLOTS / SHELF_PLACES * (i / SHELVES));
    check_place(slot);
    filled += node_load(slot) != NULL;
  }
  return filled;
}

/* The frames of the other threads are roots no more, and neither are the inboxes in them. */
static void forget_inboxes(void) {
  for (size_t i = 0; i < RIG_THREADS_MAX; i++) inbox_of[i] = &statics[0];
}

static void replace(struct rng *rng) {
  void *name = take(rng);
  package_dropped(name);
  if (name != NULL) put(rng, package_new(rng));
}

enum { CHILD_ROUNDS = TEST_CHILD_MAY_COLLECT ? 2 : 0 };

static int run_child(void *argument) {
  struct rng rng = {(uintptr_t)argument};
  forget_inboxes();
  bool is_checked_first = CHILD_ROUNDS == 0 || rng_one_in(&rng, 2);
  if (is_checked_first) check_places();
  for (int i = 0; i != CHILD_ROUNDS; i++) {
    midden_collect();
    for (int j = 0; j < 200; j++) put(&rng, take(&rng));
    for (int j = 0; j < 20; j++) replace(&rng);
    check_places();
  }
  midden_verify();
  return 0;
}

static void fork_meanwhile(struct rng *rng) {
  if (!rng_one_in(rng, 12)) return;
  test_child_succeeds("the child of a fork", run_child, (void *)(uintptr_t)rng_next(rng), 120);
}

/* ---- start ---- */

struct operation {
  void (*run)(struct carrier *self);
  unsigned weight;
};

static const struct operation operations[] = {
    {op_exchange, 5000}, {op_make, 800},  {op_drop, 120},   {op_turn, 1000}, {op_resize, 100}, {op_local, 400},
    {op_root, 400},      {op_inbox, 400}, {op_descend, 80}, {op_block, 80},  {op_collect, 2},  {op_thread, 20},
};

static unsigned operations_weight; /* constant after start */

static void random_operation(struct carrier *self) {
  size_t at = rng_below(&self->rng, operations_weight), i = 0;
  while (at >= operations[i].weight) at -= operations[i++].weight;
  operations[i].run(self);
}

NOINLINE_TEST static void carry(struct rig_thread *thread) {
  struct carrier self = {.rng = thread->rng, .number = thread->number};
  void *inbox = NULL; /* others store here */
  __atomic_store_n(&inbox_of[self.number], &inbox, __ATOMIC_RELEASE);
  for (size_t i = 0; i < ROOTS; i++) self.hidden_roots[i] = test_hide(node_new(NODE_ROOT, 1));
  midden_blocking_enter();
  pthread_barrier_wait(&ready);
  midden_blocking_leave();
  for (size_t i = 0; i < rig_steps; i++) {
    rig_step();
    random_operation(&self);
  }
  for (size_t i = 0; i < BAG; i++) package_check(self.bag[i]), put(&self.rng, self.bag[i]), self.bag[i] = NULL;
  put(&self.rng, node_exchange(&local_slot, NULL));
  for (size_t i = 0; i < ROOTS; i++) {
    struct node *root = test_unhide(self.hidden_roots[i]);
    put(&self.rng, node_load(node_slot(root, 0)));
    midden_free(root);
  }
  midden_blocking_enter();
  pthread_barrier_wait(&over);
  midden_blocking_leave();
  __atomic_store_n(&inbox_of[self.number], &statics[0], __ATOMIC_RELEASE);
  void *last = node_exchange(&inbox, NULL);
  if (last != NULL) __atomic_fetch_add(&packages_gone, 1, __ATOMIC_RELAXED);
}

static void set_up(void) {
  for (size_t i = 0; i < TEST_COUNT_OF(operations); i++) operations_weight += operations[i].weight;
  static const enum node_shape shapes[SHELVES] = {NODE_PLAIN, NODE_ARRAY, NODE_TRACED};
  for (size_t i = 0; i < SHELVES; i++) node_store(&shelves[i], node_name(node_new(shapes[i], SHELF_SLOTS)));
  added = calloc(ADDED, sizeof(*added));
  REQUIRE(added != NULL && midden_root_add(added, added + ADDED) == 0, "midden_root_add");
  forget_inboxes();
  package_limit = (STATICS + ADDED + SHELVES * SHELF_PLACES) / 2;
  pthread_barrier_init(&ready, NULL, (unsigned)rig_thread_count);
  pthread_barrier_init(&over, NULL, (unsigned)rig_thread_count);
}

static void run(struct rng *rng) {
  set_up();
  rig_run_threads(rng, carry, fork_meanwhile);
  size_t filled = check_places();
  REQUIRE(filled == packages_alive(), "%zu packages were made and not dropped, %zu are there", packages_alive(),
          filled);
  node_clear_range(statics, STATICS);
  node_clear_range(shelves, SHELVES);
  node_clear_range(added, ADDED);
  for (int i = 0; i < 3; i++) test_collect_clean();
  REQUIRE(test_stats().objects < 1000, "%zu objects are left when nothing refers to them", test_stats().objects);
}

int main(int count, char **arguments) {
  static const struct rig_test test = {
      .name = "test_barrier_handover", .steps = 40000, .run = run, .option = node_option};
  return rig_main(&test, count, arguments);
}

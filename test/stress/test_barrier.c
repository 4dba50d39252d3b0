/* Random mutators on a shared graph in barrier mode.
 *
 * All threads walk, cut and tie one graph of self-checking nodes (support/nodes.h), which hangs on static slots, large
 * arrays, lock-free stacks, thread-local slots and root objects.  Each holds some nodes in its frame.  What a concurrent
 * collector may lose is what the program moves from where it has not looked yet to where it does not look again, so that
 * is what the operations do, again and again:
 *
 *   wrap       the only path to a node goes from an old object into a fresh (black) one, which is filled without barrier
 *   take       the only path is cut right after loading it, and the node lives on in a register, through long
 *              computations, deep recursion and blocking calls
 *   gift       a node that only a stack held goes into a fresh object of another thread
 *   swap       pointers change places between two objects, and among all threads on a few hot slots
 *   free       the only object that held a node is freed right after loading it
 *   array      ranges are copied, moved and cleared in arrays that are marked in pieces
 *
 * Everything but the frames' own variables is written through the barrier. */
#include <sched.h>

#include "support/barrier_rig.h"

enum {
  ANCHORS = 96,
  HOT = 3,
  ARRAYS = 6,
  STACKS = 3,
  BOXES = 8,
  LOCALS = 6,
  ROOTS = 4,
  HELD = 8,
  ARRAY_SLOTS = 20000, /* 160 KiB */
  DEPTH_MAX = 1000
};

static void *anchors[ANCHORS];
static void *hot[HOT];
static void *arrays[ARRAYS]; /* large nodes */
static void *stacks[STACKS]; /* linked by the first slot; pushed nodes are fresh */
static void *boxes[BOXES];   /* fresh nodes with one slot, to be filled by whoever takes them */
static _Thread_local void *local_slots[LOCALS];

static size_t pushed, popped; /* atomic */

struct mutator {
  struct rng rng;
  void *held[HELD]; /* names */
  uint64_t serials[HELD];
  uintptr_t hidden_roots[ROOTS]; /* root objects, disguised: nothing else keeps them */
};

/* ---- what the thread holds ---- */

static void *held(struct mutator *self) {
  size_t i = rng_below(&self->rng, HELD);
  struct node *node = node_check(self->held[i]);
  REQUIRE(node == NULL || node->serial == self->serials[i], "node %p, held by this thread, has become another",
          (void *)node);
  return self->held[i];
}

static void hold(struct mutator *self, void *name) {
  size_t i = rng_below(&self->rng, HELD);
  struct node *node = node_check(name);
  self->held[i] = name;
  self->serials[i] = node == NULL ? 0 : node->serial;
}

/* Keeps the name in a register, if anywhere, for a while. */
NOINLINE_TEST static void *compute(struct rng *rng, void *name) {
  uint64_t sum = 0;
  for (size_t i = rng_size(rng, 20000); i-- > 0;) {
    sum = test_mix(sum + i);
    __asm__ volatile("" : "+r"(name), "+r"(sum));
  }
  node_check(name);
  return name;
}

/* ---- places ---- */

/* A slot that is a root of some sort. */
static void *root_slot(struct mutator *self) {
  switch (rng_below(&self->rng, 8)) {
    case 0:
      return &hot[rng_below(&self->rng, HOT)];
    case 1:
      return &local_slots[rng_below(&self->rng, LOCALS)];
    case 2: {
      struct node *root = test_unhide(self->hidden_roots[rng_below(&self->rng, ROOTS)]);
      return node_slot(root, rng_below(&self->rng, node_slots(root)));
    }
    default:
      return &anchors[rng_below(&self->rng, ANCHORS)];
  }
}

static midden_word *random_slot(struct rng *rng, const struct node *node) {
  size_t slots = node_slots(node);
  return slots == 0 ? NULL : node_slot(node, rng_below(rng, slots));
}

static struct node *random_array(struct mutator *self) {
  return node_check(node_load(&arrays[rng_below(&self->rng, ARRAYS)]));
}

/* The end of a random path: a slot.  The object that it lies in is held by *holder. */
static void *walk(struct mutator *self, struct node **holder) {
  *holder = rng_one_in(&self->rng, 3) ? random_array(self) : NULL;
  void *slot = *holder == NULL ? root_slot(self) : (void *)random_slot(&self->rng, *holder);
  for (size_t steps = rng_below(&self->rng, 10); steps-- > 0;) {
    struct node *node = node_check(node_load(slot));
    midden_word *next = node == NULL ? NULL : random_slot(&self->rng, node);
    if (next == NULL) break;
    slot = next;
    *holder = node;
  }
  return slot;
}

/* Keeps what holds a slot alive to here. */
static void done(const struct node *holder) { __asm__ volatile("" : : "r"(holder) : "memory"); }

/* ---- operations ---- */

static void op_load(struct mutator *self) {
  struct node *holder;
  hold(self, node_load(walk(self, &holder)));
  done(holder);
}

static void op_store(struct mutator *self) {
  struct node *holder;
  void *name = held(self);
  node_store(walk(self, &holder), name);
  done(holder);
}

static void op_cut(struct mutator *self) {
  struct node *holder;
  node_store(walk(self, &holder), NULL);
  done(holder);
}

/* Lets go of some of the graph. */
static void prune(struct mutator *self) {
  struct node *array = random_array(self);
  size_t at = NODE_ELEMENT_SLOTS * rng_below(&self->rng, ARRAY_SLOTS / NODE_ELEMENT_SLOTS);
  node_clear_range(node_slot(array, at), NODE_ELEMENT_SLOTS);
  node_store(root_slot(self), NULL);
}

/* Fresh nodes, filled without barrier. */
static void op_fresh(struct mutator *self) {
  if (__atomic_load_n(&rig_heap_is_large, __ATOMIC_RELAXED)) {
    prune(self);
    return;
  }
  struct node *node = rng_one_in(&self->rng, 10) ? node_new(NODE_LEAF, 0) : node_new_random(&self->rng, 6);
  for (size_t i = 0; i < node_slots(node); i++) {
    if (rng_one_in(&self->rng, 3)) node_fill(node, i, held(self));
  }
  struct node *holder;
  void *slot = walk(self, &holder);
  if (rng_one_in(&self->rng, 3)) {
    hold(self, node_exchange(slot, node_name(node)));
  } else {
    node_store(slot, node_name(node));
  }
  done(holder);
}

/* The node's only path now leads through a fresh object. */
static void op_wrap(struct mutator *self) {
  struct node *holder;
  void *slot = walk(self, &holder);
  void *name = node_load(slot);
  if (name == NULL || __atomic_load_n(&rig_heap_is_large, __ATOMIC_RELAXED)) return;
  if (rng_one_in(&self->rng, 2)) node_store(slot, NULL);
  struct node *wrap = node_new_random(&self->rng, 2);
  node_fill(wrap, 0, name);
  node_store(slot, node_name(wrap));
  done(holder);
}

static void op_unwrap(struct mutator *self) {
  struct node *holder;
  void *slot = walk(self, &holder);
  struct node *wrap = node_check(node_load(slot));
  midden_word *inner = wrap == NULL ? NULL : random_slot(&self->rng, wrap);
  if (inner != NULL) node_store(slot, node_load(inner));
  done(holder);
}

static void op_take(struct mutator *self) {
  struct node *holder;
  void *slot = walk(self, &holder);
  void *name = node_load(slot);
  if (rng_one_in(&self->rng, 2)) {
    node_store(slot, NULL);
  } else {
    name = node_exchange(slot, NULL);
  }
  done(holder);
  hold(self, compute(&self->rng, name));
}

static void op_cas(struct mutator *self) {
  struct node *holder;
  void *slot = walk(self, &holder);
  void *expected = node_load(slot);
  for (int tries = 0; tries < 20 && !node_cas(slot, &expected, held(self)); tries++) node_check(expected);
  done(holder);
  hold(self, expected);
}

static void op_swap(struct mutator *self) {
  struct node *holders[2];
  void *slots[2] = {walk(self, &holders[0]), walk(self, &holders[1])};
  if (rng_one_in(&self->rng, 4)) slots[0] = &hot[rng_below(&self->rng, HOT)];
  for (size_t i = rng_size(&self->rng, 200); i-- > 0;) {
    void *first = node_load(slots[0]), *second = node_load(slots[1]);
    node_store(slots[0], second);
    node_store(slots[1], first);
  }
  done(holders[0]);
  done(holders[1]);
}

/* All threads on one slot: what one stores another overwrites before its barrier has said so. */
static void op_hot(struct mutator *self) {
  void **slot = &hot[rng_below(&self->rng, HOT)];
  for (size_t i = rng_size(&self->rng, 50); i-- > 0;) {
    struct node *node = node_new(NODE_PLAIN, 1);
    node_fill(node, 0, rng_one_in(&self->rng, 2) ? node_load(slot) : NULL);
    if (i % 8 == 0) node_fill(node, 0, NULL);
    node_store(slot, node_name(node));
  }
}

/* Nobody pushes a node twice, so a node that is still on top is followed by what followed it. */
static void op_push(struct mutator *self) {
  void **stack = &stacks[rng_below(&self->rng, STACKS)];
  struct node *node = node_new(NODE_PLAIN, 2);
  void *top = node_load(stack), *load = held(self);
  node_fill(node, 1, load);
  do {
    node_store(node_slot(node, 0), top);
  } while (!node_cas(stack, &top, node_name(node)));
  __atomic_fetch_add(&pushed, 1, __ATOMIC_RELAXED);
}

static void op_pop(struct mutator *self) {
  void **stack = &stacks[rng_below(&self->rng, STACKS)];
  void *top = node_load(stack);
  while (top != NULL && !node_cas(stack, &top, node_load(node_slot(node_check(top), 0)))) continue;
  if (top == NULL) return;
  hold(self, node_load(node_slot(node_check(top), 1)));
  node_store(node_slot(node_check(top), 1), NULL);
  __atomic_fetch_add(&popped, 1, __ATOMIC_RELAXED);
}

/* Puts a node of this frame into a fresh object of another thread, checks what the one before put there. */
static void op_gift(struct mutator *self) {
  void **place = &boxes[rng_below(&self->rng, BOXES)];
  struct node *box = node_check(node_exchange(place, NULL));
  if (box != NULL) {
    struct node *gift = node_new(NODE_PLAIN, 1);
    void *before = node_exchange(node_slot(box, 0), node_name(gift));
    hold(self, before);
    node_store(place, node_name(box));
  }
  if (box == NULL || rng_one_in(&self->rng, 3)) node_store(place, node_name(node_new(NODE_PLAIN, 1)));
}

static void op_root(struct mutator *self) {
  size_t i = rng_below(&self->rng, ROOTS);
  struct node *old = test_unhide(self->hidden_roots[i]), *fresh = node_new(NODE_ROOT, 1 + rng_below(&self->rng, 8));
  for (size_t slot = 0; slot < node_slots(fresh); slot++) node_fill(fresh, slot, held(self));
  hold(self, node_load(node_slot(old, 0)));
  self->hidden_roots[i] = test_hide(fresh);
  midden_free(old);
}

/* The head of a private list is freed and the tail hidden in a fresh object; neither was ever shown to anybody. */
static void op_free(struct mutator *self) {
  struct node *tail = node_new_random(&self->rng, 3), *head = node_new_random(&self->rng, 3);
  node_fill(head, 0, node_name(tail));
  if (rng_one_in(&self->rng, 4)) sched_yield();
  void *name = compute(&self->rng, node_load(node_slot(head, 0)));
  midden_free(head);
  struct node *wrap = node_new(NODE_PLAIN, 1);
  node_fill(wrap, 0, name);
  hold(self, node_name(wrap));
}

/* ---- operations on arrays ---- */

static void op_array_store(struct mutator *self) {
  struct node *array = random_array(self);
  for (size_t i = rng_size(&self->rng, 60); i-- > 0;) {
    midden_word *slot = random_slot(&self->rng, array);
    void *name = node_exchange(slot, held(self));
    if (rng_one_in(&self->rng, 4)) hold(self, name);
  }
}

/* Both ranges may lie in one array and overlap.  Typed arrays have no long runs of slots: four words at a time. */
static void op_array_copy(struct mutator *self) {
  struct node *to = random_array(self), *from = random_array(self);
  bool is_typed = node_shape(to) == NODE_ARRAY || node_shape(from) == NODE_ARRAY;
  size_t count = is_typed ? NODE_ELEMENT_SLOTS : rng_size(&self->rng, 3000);
  size_t last = (ARRAY_SLOTS - count) / NODE_ELEMENT_SLOTS;
  size_t to_at = NODE_ELEMENT_SLOTS * rng_below(&self->rng, last + 1);
  size_t from_at = NODE_ELEMENT_SLOTS * rng_below(&self->rng, last + 1);
  node_copy_range(node_slot(to, to_at), node_slot(from, from_at), count);
}

static void op_array_clear(struct mutator *self) {
  struct node *array = random_array(self);
  size_t count = node_shape(array) == NODE_ARRAY ? NODE_ELEMENT_SLOTS : rng_size(&self->rng, ARRAY_SLOTS);
  size_t at = NODE_ELEMENT_SLOTS * rng_below(&self->rng, (ARRAY_SLOTS - count) / NODE_ELEMENT_SLOTS + 1);
  node_clear_range(node_slot(array, at), count);
}

static struct node *array_new(struct rng *rng) {
  static const enum node_shape array_shapes[] = {NODE_PLAIN, NODE_PLAIN, NODE_ARRAY, NODE_TRACED};
  return node_new(array_shapes[rng_below(rng, TEST_COUNT_OF(array_shapes))], ARRAY_SLOTS);
}

/* A fresh array takes all that an old one holds, without barrier, and the old one loses it. */
NOINLINE_TEST static void op_array_renew(struct mutator *self) {
  void **place = &arrays[rng_below(&self->rng, ARRAYS)];
  struct node *old = node_check(node_load(place)), *fresh = array_new(&self->rng);
  bool is_large = __atomic_load_n(&rig_heap_is_large, __ATOMIC_RELAXED);
  for (size_t i = 0; i < ARRAY_SLOTS && !is_large; i++) node_fill(fresh, i, node_load(node_slot(old, i)));
  node_store(place, node_name(fresh));
  if (node_shape(old) != NODE_ARRAY) node_clear_range(node_slot(old, 0), ARRAY_SLOTS);
}

/* ---- operations with the stack ---- */

/* Each frame holds what nothing else may hold. */
NOINLINE_TEST static void descend(struct mutator *self, size_t depth) {
  struct node *holder;
  void *slot = walk(self, &holder);
  void *name = rng_one_in(&self->rng, 2) ? node_exchange(slot, NULL) : node_name(node_new(NODE_PLAIN, 1));
  done(holder);
  if (depth != 0) {
    descend(self, depth - 1);
  } else if (rng_one_in(&self->rng, 4)) {
    midden_collect();
  } else {
    compute(&self->rng, name);
  }
  node_check(name);
  if (name == NULL || !rng_one_in(&self->rng, 2)) return;
  slot = walk(self, &holder);
  node_store(slot, name);
  done(holder);
}

static void op_descend(struct mutator *self) {
  size_t depth = rng_size(&self->rng, DEPTH_MAX);
  if (depth < 32 || rng_one_in(&self->rng, 8)) descend(self, depth);
}

/* Blocks with the only reference to something in its frame. */
NOINLINE_TEST static void op_block(struct mutator *self) {
  struct node *holder;
  void *volatile name = node_exchange(walk(self, &holder), NULL);
  size_t us = rng_one_in(&self->rng, 10) ? rng_below(&self->rng, 2000) : rng_below(&self->rng, 50);
  midden_blocking_enter();
  rig_pause_us(us);
  midden_blocking_leave();
  struct node *wrap = node_new(NODE_PLAIN, 1);
  node_fill(wrap, 0, name);
  hold(self, node_name(wrap));
}

static void op_collect(struct mutator *self) {
  (void)self;
  midden_collect();
}

static void op_litter(struct mutator *self) {
  REQUIRE(midden_alloc_data(rng_size(&self->rng, rng_one_in(&self->rng, 20) ? 300000 : 2000)) != NULL, "out of memory");
}

static void op_scrub(struct mutator *self) {
  memset(self->held, 0, sizeof(self->held));
  test_scrub_stack();
}

struct operation {
  void (*run)(struct mutator *self);
  unsigned weight;
};

static const struct operation operations[] = {
    {op_load, 1500},  {op_store, 1200},      {op_cut, 150},       {op_fresh, 1500},     {op_wrap, 1200},
    {op_unwrap, 900}, {op_take, 400},        {op_cas, 500},       {op_swap, 400},       {op_hot, 100},
    {op_push, 300},   {op_pop, 310},         {op_gift, 500},      {op_root, 200},       {op_free, 200},
    {op_litter, 100}, {op_array_store, 300}, {op_array_copy, 40}, {op_array_clear, 15}, {op_array_renew, 12},
    {op_descend, 30}, {op_block, 15},        {op_collect, 2},     {op_scrub, 10},
};

static unsigned operations_weight; /* constant after start */

static void random_operation(struct mutator *self) {
  size_t at = rng_below(&self->rng, operations_weight), i = 0;
  while (at >= operations[i].weight) at -= operations[i++].weight;
  operations[i].run(self);
}

/* ---- start ---- */

NOINLINE_TEST static void mutate(struct rig_thread *thread) {
  struct mutator self = {.rng = thread->rng};
  for (size_t i = 0; i < ROOTS; i++) self.hidden_roots[i] = test_hide(node_new(NODE_ROOT, 4));
  for (size_t i = 0; i < rig_steps; i++) {
    rig_step();
    random_operation(&self);
  }
  for (size_t i = 0; i < HELD; i++) held(&self);
  for (size_t i = 0; i < ROOTS; i++) midden_free(test_unhide(self.hidden_roots[i]));
}

/* Half of what the heap may hold, so that marking takes its time from the beginning. */
NOINLINE_TEST static void fill_arrays(struct rng *rng) {
  for (size_t i = 0; i < ARRAYS; i++) node_store(&arrays[i], node_name(array_new(rng)));
  for (size_t i = rig->large_objects / 2; i-- > 0;) {
    struct node *array = node_check(node_load(&arrays[i % ARRAYS]));
    node_store(random_slot(rng, array), node_name(node_new_random(rng, 3)));
  }
}

static void empty_stacks(void) {
  for (size_t i = 0; i < STACKS; i++) {
    for (void *name = node_load(&stacks[i]); name != NULL; name = node_load(node_slot(node_check(name), 0))) popped++;
    node_store(&stacks[i], NULL);
  }
  REQUIRE(pushed == popped, "%zu nodes were pushed, %zu popped", pushed, popped);
}

static void run(struct rng *rng) {
  for (size_t i = 0; i < TEST_COUNT_OF(operations); i++) operations_weight += operations[i].weight;
  fill_arrays(rng);
  rig_run_threads(rng, mutate, NULL);
  empty_stacks();
  node_clear_range(anchors, ANCHORS);
  node_clear_range(hot, HOT);
  node_clear_range(arrays, ARRAYS);
  node_clear_range(boxes, BOXES);
  for (int i = 0; i < 3; i++) test_collect_clean();
  REQUIRE(test_stats().objects < 1000, "%zu objects are left when nothing refers to them", test_stats().objects);
}

int main(int count, char **arguments) {
  static const struct rig_test test = {.name = "test_barrier", .steps = 40000, .run = run, .option = node_option};
  return rig_main(&test, count, arguments);
}

/* Objects that notice when they were lost, for tests that store through the write barrier.
 *
 * A node is an object of some shape: a header of four words that are no pointers, then slots.  The header holds a magic
 * number with the shape and the number of slots, the node's own address (complemented), a serial number that no other
 * node of the run has, and a checksum of all that.  A slot holds the *name* of a node: its address plus 0..15, a function
 * of the serial number.  So whoever loads a slot notices a node that was freed, overwritten, or has become another one,
 * the last with a chance of 15 in 16; and every pointer that the collector sees is an interior one.  Now and then
 * midden_base is asked too: it knows that a node was reclaimed before its memory is used again.
 *
 * Slots are written by node_store, node_exchange and node_cas, which are midden_store and its kin, counted, and with
 * halves of the barrier left out where node_fault says so: the test of the test.  Only a node that its allocating thread
 * has shown to nobody is filled by plain stores (node_fill).  Slots are read by node_load. */
#ifndef MIDDEN_TEST_SUPPORT_NODES_H
#define MIDDEN_TEST_SUPPORT_NODES_H

#include "midden/barrier.h"
#include "support/heap_test.h"

enum { NODE_MAGIC = 0x6e6f6465, NODE_HEADER_WORDS = 4, NODE_ELEMENT_WORDS = 8, NODE_ELEMENT_SLOTS = 4 };

enum node_shape {
  NODE_PLAIN,  /* conservative */
  NODE_TYPED,  /* one element: the header and four slots */
  NODE_ARRAY,  /* typed elements of the same layout; only the first has a header */
  NODE_TRACED, /* a kind with a trace function */
  NODE_LEAF,   /* data, no slots */
  NODE_ROOT,   /* lives until it is freed */
  NODE_SHAPES
};

struct node {
  uint64_t label;  /* magic << 32 | shape << 28 | number of slots */
  uint64_t self;   /* complement of the address */
  uint64_t serial; /* unique; its top bits are those of the thread that made it */
  uint64_t sum;    /* of the above */
};

static const uint64_t node_type_pointers[] = {0xf0};
static const struct midden_type node_type = {
    .name = "node", .size = NODE_ELEMENT_WORDS * sizeof(void *), .pointers = node_type_pointers};

static midden_kind node_traced_kind;

static _Thread_local uint64_t node_stores; /* of this thread, by the functions below */
static _Thread_local uint64_t node_checks;
static _Thread_local uint64_t node_next_serial;

/* ---- layout ---- */

static inline enum node_shape node_shape(const struct node *node) { return (node->label >> 28) & 15; }
static inline size_t node_slots(const struct node *node) { return node->label & 0xfffffff; }

static inline midden_word *node_slot(const struct node *node, size_t i) {
  midden_word *words = (midden_word *)(uintptr_t)node;
  enum node_shape shape = node_shape(node);
  if (shape != NODE_TYPED && shape != NODE_ARRAY) return words + NODE_HEADER_WORDS + i;
  return words + i / NODE_ELEMENT_SLOTS * NODE_ELEMENT_WORDS + NODE_HEADER_WORDS + i % NODE_ELEMENT_SLOTS;
}

static inline size_t node_tag(uint64_t serial) { return test_mix(serial) & 15; }
static inline uint64_t node_sum(const struct node *node) {
  return test_mix(node->label + 3 * test_mix(node->serial + 5 * node->self));
}

static inline void *node_name(const struct node *node) {
  return node == NULL ? NULL : (char *)(uintptr_t)node + node_tag(node->serial);
}

/* ---- checking ---- */

__attribute__((noreturn, cold, noinline, unused)) static void node_is_damaged(const void *name,
                                                                              const struct node *node) {
  REQUIRE(false,
          "node %p, named %p, is damaged: label 0x%" PRIx64 ", self 0x%" PRIx64 ", serial 0x%" PRIx64 ", sum 0x%" PRIx64
          ", in an object: %d",
          (const void *)node, name, node->label, ~node->self, node->serial, node->sum, (int)midden_owns(node));
}

/* The node that a name is of; NULL for NULL. */
static inline struct node *node_check(const void *name) {
  if (name == NULL) return NULL;
  struct node *node = (struct node *)((uintptr_t)name & ~(uintptr_t)15);
  bool is_whole = node->label >> 32 == NODE_MAGIC && node->self == ~(uint64_t)(uintptr_t)node &&
                  node->sum == node_sum(node) && ((uintptr_t)name & 15) == node_tag(node->serial);
  if (is_whole && ++node_checks % 16 == 0) is_whole = midden_base(name) == node;
  if (__builtin_expect(!is_whole, 0)) node_is_damaged(name, node);
  return node;
}

/* ---- slots ---- */

enum node_fault {
  NODE_FAULT_NONE,
  NODE_FAULT_NO_BARRIER,
  NODE_FAULT_NO_DELETION,
  NODE_FAULT_NO_INSERTION,
  NODE_FAULT_NO_SLOT
};
static enum node_fault node_fault; /* constant after start */

/* An argument of a test program: leaves the barrier out, or half of it. */
__attribute__((unused)) static bool node_option(const char *word) {
  static const char *const words[] = {"sound", "missing", "missing-deletion", "missing-insertion", "missing-slot"};
  for (size_t i = 0; i < TEST_COUNT_OF(words); i++) {
    if (strcmp(word, words[i]) != 0) continue;
    node_fault = (enum node_fault)i;
    return true;
  }
  return false;
}

__attribute__((cold, noinline)) static void node_barrier_faulty(const void *slot, const void *old, const void *value) {
  if (midden_barrier_active == 0) return;
  if (node_fault == NODE_FAULT_NO_DELETION) midden_barrier_record(slot, NULL, value);
  if (node_fault == NODE_FAULT_NO_INSERTION) midden_barrier_record(slot, old, NULL);
  if (node_fault == NODE_FAULT_NO_SLOT) midden_barrier_record(NULL, old, value);
}

static inline void *node_exchange(void *slot, const void *name) {
  node_stores++;
  if (__builtin_expect(node_fault == NODE_FAULT_NONE, 1)) return midden_exchange(slot, name);
  void *old = __atomic_exchange_n((midden_word *)slot, (void *)(uintptr_t)name, __ATOMIC_ACQ_REL);
  node_barrier_faulty(slot, old, name);
  return old;
}

static inline void node_store(void *slot, const void *name) {
  if (__builtin_expect(node_fault != NODE_FAULT_NONE, 0)) {
    node_exchange(slot, name);
    return;
  }
  node_stores++;
  midden_store(slot, name);
}

static inline bool node_cas(void *slot, void **expected, const void *name) {
  node_stores++;
  if (__builtin_expect(node_fault == NODE_FAULT_NONE, 1)) return midden_cas(slot, expected, name);
  void *old = *expected;
  bool stored = __atomic_compare_exchange_n((midden_word *)slot, expected, (void *)(uintptr_t)name, false,
                                            __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  if (stored) node_barrier_faulty(slot, old, name);
  return stored;
}

static inline void node_copy_range(void *to, const void *from, size_t count) {
  node_stores += count;
  if (__builtin_expect(node_fault == NODE_FAULT_NONE, 1)) {
    midden_copy_range(to, from, count);
    return;
  }
  for (size_t i = 0; i < count; i++)
    node_store((midden_word *)to + i, __atomic_load_n((const midden_word *)from + i, __ATOMIC_ACQUIRE));
}

static inline void node_clear_range(void *slots, size_t count) {
  node_stores += count;
  if (__builtin_expect(node_fault == NODE_FAULT_NONE, 1)) {
    midden_clear_range(slots, count);
    return;
  }
  for (size_t i = 0; i < count; i++) node_store((midden_word *)slots + i, NULL);
}

/* What a slot names, checked. */
static inline void *node_load(const void *slot) {
  void *name = __atomic_load_n((const midden_word *)slot, __ATOMIC_ACQUIRE);
  node_check(name);
  return name;
}

/* Fills a slot of a node that no other thread of the program has seen; a marker may have, as of the header. */
static inline void node_fill(struct node *node, size_t i, const void *name) {
  __atomic_store_n(node_slot(node, i), (void *)(uintptr_t)name, __ATOMIC_RELAXED);
}

/* ---- making ---- */

/* Runs beside the thread that fills the object for the first time, so the thread sanitizer has to look away. */
__attribute__((no_sanitize("thread"), unused)) static void node_trace(void *object, size_t slot_bytes,
                                                                      struct midden_tracer *tracer, void *argument) {
  const midden_word *words = object;
  uint64_t label = ((const volatile struct node *)object)->label;
  (void)argument;
  REQUIRE(label == 0 || label >> 32 == NODE_MAGIC, "trace function called for %p, which has label 0x%" PRIx64, object,
          label);
  for (size_t i = NODE_HEADER_WORDS; i < slot_bytes / sizeof(void *); i++)
    midden_trace(tracer, __atomic_load_n(&words[i], __ATOMIC_ACQUIRE));
}

/* Set before the first node: all nodes with slots are conservative, or of a kind whose trace function runs beside the program. */
__attribute__((unused)) static bool node_only_plain;

/* Set before the first node: none is of that kind. */
__attribute__((unused)) static bool node_never_traced;

__attribute__((unused)) static void node_make_kinds(void) {
  struct midden_kind_options options = {
      .size = sizeof(options), .name = "traced node", .trace = node_trace, .trace_beside = node_only_plain};
  int kind = midden_kind_new(&options);
  REQUIRE(kind >= MIDDEN_KINDS_BUILT_IN, "midden_kind_new: %d", kind);
  node_traced_kind = (midden_kind)kind;
}

static inline size_t node_words(enum node_shape shape, size_t slots) {
  if (shape == NODE_LEAF) return NODE_HEADER_WORDS;
  if (shape != NODE_TYPED && shape != NODE_ARRAY) return NODE_HEADER_WORDS + slots;
  return (slots + NODE_ELEMENT_SLOTS - 1) / NODE_ELEMENT_SLOTS * NODE_ELEMENT_WORDS;
}

static inline void *node_allocate(enum node_shape shape, size_t words) {
  size_t bytes = words * sizeof(void *);
  switch (shape) {
    case NODE_TYPED:
      return midden_alloc_type(&node_type);
    case NODE_ARRAY:
      return midden_alloc_array(&node_type, words / NODE_ELEMENT_WORDS);
    case NODE_TRACED:
      return midden_alloc_kind(node_traced_kind, bytes);
    case NODE_LEAF:
      return midden_alloc_data(bytes);
    case NODE_ROOT:
      return midden_alloc_root(bytes);
    default:
      return midden_alloc(bytes);
  }
}

/* The header is no pointer, but a marker may read it: stored whole, as the thread sanitizer wants to be told. */
static inline void node_write(uint64_t *field, uint64_t value) { __atomic_store_n(field, value, __ATOMIC_RELAXED); }

/* Writes the header; again after the object was moved. */
static inline void node_label(struct node *node, enum node_shape shape, size_t slots, uint64_t serial) {
  node_write(&node->label, (uint64_t)NODE_MAGIC << 32 | (uint64_t)shape << 28 | slots);
  node_write(&node->self, ~(uint64_t)(uintptr_t)node);
  node_write(&node->serial, serial);
  node_write(&node->sum, node_sum(node));
}

/* Gives the calling thread serial numbers of its own. */
static inline void node_begin_thread(size_t number) { node_next_serial = (uint64_t)(number + 1) << 40; }

/* A node with empty slots.  A typed node has NODE_ELEMENT_SLOTS, a leaf none, whatever was asked for. */
static inline struct node *node_new(enum node_shape shape, size_t slots) {
  if (node_only_plain && (shape == NODE_TYPED || shape == NODE_ARRAY)) shape = NODE_PLAIN;
  if (node_never_traced && shape == NODE_TRACED) shape = NODE_PLAIN;
  if (shape == NODE_TYPED) slots = NODE_ELEMENT_SLOTS;
  if (shape == NODE_LEAF) slots = 0;
  size_t words = node_words(shape, slots);
  struct node *node = node_allocate(shape, words);
  REQUIRE(node != NULL, "out of memory");
  const midden_word *fresh = (const midden_word *)node;
  for (size_t i = 0; i < words && i < 16; i++)
    REQUIRE(fresh[i] == NULL, "fresh object %p has %p in word %zu", (void *)node, fresh[i], i);
  node_label(node, shape, slots, node_next_serial++);
  return node;
}

/* Any shape but a root, with 1 to `slots_max` slots. */
__attribute__((unused)) static struct node *node_new_random(struct rng *rng, size_t slots_max) {
  static const enum node_shape likely[] = {NODE_PLAIN, NODE_PLAIN, NODE_PLAIN, NODE_TYPED,
                                           NODE_TYPED, NODE_ARRAY, NODE_TRACED};
  return node_new(likely[rng_below(rng, TEST_COUNT_OF(likely))], 1 + rng_below(rng, slots_max));
}

#endif

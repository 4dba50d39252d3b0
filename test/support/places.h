/* Places of every sort for packages (support/package.h), each with a note of which one lies there.
 *
 * A place is a slot somewhere: in arrays beyond the size of a huge page, conservative, typed and read by a trace function; in
 * objects across the borders of OS pages; in root objects; in static data, thread-local storage, added roots, and in what a
 * root callback reports.  It is written by plain stores.  Slots and notes are kept where no collector finds anything: the
 * slots' addresses disguised, of the packages their serial numbers. */
#ifndef MIDDEN_TEST_SUPPORT_PLACES_H
#define MIDDEN_TEST_SUPPORT_PLACES_H

#include "support/package.h"

enum {
  PLACES_SETS = 4, /* as many threads may have places */
  PLACES_STATIC = 64,
  PLACES_LOCAL = 16,
  PLACES_ADDED = 64,
  PLACES_REPORTED = 64,
  PLACES_LARGE = 2000,       /* slots of a large array */
  PLACES_LARGE_STRIDE = 512, /* words from one slot to the next, in one of them: a slot for each OS page */
  PLACES_BOXES = 60,
  PLACES_BOX_SLOTS_MAX = 700, /* of every power of two as many boxes as of the next */
  PLACES_ROOTS = 4,
  PLACES_ROOT_SLOTS = 50
};

struct places {
  size_t set;
  size_t count;
  uintptr_t *slot;  /* disguised */
  uint64_t *serial; /* of the package that lies there; 0 for none */
  size_t row;       /* from this one on they lie side by side, in one array */
};

static size_t places_divisor = 1; /* constant after start; of the numbers of large arrays' slots, and of boxes */

static void *places_static[PLACES_SETS][PLACES_STATIC];
/* These keep the objects in which places are.  Nobody reads them: without the attribute the compiler leaves them out. */
static __attribute__((used)) void *places_large[PLACES_SETS][4];
static __attribute__((used)) void **places_boxes[PLACES_SETS];

static midden_word *places_reported[PLACES_SETS]; /* from malloc, for the root callback; or NULL */
static _Thread_local void *places_local[PLACES_LOCAL];
static midden_kind places_row_kind;

static const uint64_t places_element_pointers[] = {2};
static const struct midden_type places_element = {.name = "element", .size = 24, .pointers = places_element_pointers};

/* ---- making ---- */

static inline void *places_required(void *object) {
  REQUIRE(object != NULL, "out of memory");
  return object;
}

static void places_add(struct places *places, void *slot) {
  if ((places->count & (places->count - 1)) == 0) {
    size_t capacity = places->count == 0 ? 1 : 2 * places->count;
    places->slot = places_required(realloc(places->slot, capacity * sizeof(uintptr_t)));
    places->serial = places_required(realloc(places->serial, capacity * sizeof(uint64_t)));
  }
  places->slot[places->count] = test_hide(slot);
  places->serial[places->count++] = 0;
}

static void places_add_all(struct places *places, void *first, size_t count, size_t stride_words) {
  for (size_t i = 0; i < count; i++) places_add(places, (midden_word *)first + i * stride_words);
}

/* The slots of an object with so many: element by element if it is typed. */
static void *places_object(struct places *places, unsigned sort, size_t slots) {
  if (node_only_plain) sort = 0;
  char *object = places_required(sort == 0   ? midden_alloc(slots * sizeof(void *))
                                 : sort == 1 ? midden_alloc_kind(places_row_kind, slots * sizeof(void *))
                                             : midden_alloc_array(&places_element, slots));
  places_add_all(places, sort == 2 ? object + sizeof(void *) : object, slots, sort == 2 ? 3 : 1);
  return object;
}

static void places_make_large(struct places *places) {
  void **large = places_large[places->set];
  size_t slots = PLACES_LARGE / places_divisor;
  large[0] = places_required(midden_alloc(slots / 4 * PLACES_LARGE_STRIDE * sizeof(void *)));
  places_add_all(places, large[0], slots / 4, PLACES_LARGE_STRIDE);
  large[1] = places_object(places, 1, slots / 2);
  large[2] = places_object(places, 2, slots);
  places->row = places->count;
  large[3] = places_object(places, 0, slots);
}

static void places_make_boxes(struct rng *rng, struct places *places) {
  size_t count = PLACES_BOXES / places_divisor;
  void **boxes = places_boxes[places->set] = places_required(midden_alloc(count * sizeof(void *)));
  for (size_t i = 0; i < count; i++) boxes[i] = places_object(places, i % 3, rng_size(rng, PLACES_BOX_SLOTS_MAX));
}

static void places_make_outside(struct places *places) {
  midden_word *added = places_required(calloc(PLACES_ADDED, sizeof(void *)));
  REQUIRE(midden_root_add(added, added + PLACES_ADDED) == 0, "midden_root_add");
  places_add_all(places, added, PLACES_ADDED, 1);
  places_add_all(places, places_static[places->set], PLACES_STATIC, 1);
  places_add_all(places, places_local, PLACES_LOCAL, 1);
  for (int i = 0; i < PLACES_ROOTS; i++) {
    void *root = places_required(midden_alloc_root(PLACES_ROOT_SLOTS * sizeof(void *)));
    places_add_all(places, root, PLACES_ROOT_SLOTS, 1);
  }
  if (places_reported[places->set] != NULL) places_add_all(places, places_reported[places->set], PLACES_REPORTED, 1);
}

/* For the calling thread, and `count` empty slots of its own among them. */
NOINLINE_TEST static void places_make(struct rng *rng, struct places *places, size_t set, void **own, size_t count) {
  *places = (struct places){.set = set};
  places_add_all(places, own, count, 1);
  places_make_outside(places);
  places_make_boxes(rng, places);
  places_make_large(places);
}

static void places_trace_row(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)argument;
  midden_trace_range(tracer, object, (char *)object + slot_bytes);
}

static void places_report(struct midden_tracer *tracer, void *argument) {
  (void)argument;
  for (size_t i = 0; i < PLACES_SETS; i++)
    midden_trace_range(tracer, places_reported[i], places_reported[i] + PLACES_REPORTED);
}

/* Once, before any are made. */
static void places_start(bool with_callback) {
  struct midden_kind_options row = {.size = sizeof(row), .name = "row", .trace = places_trace_row};
  int kind = midden_kind_new(&row);
  REQUIRE(kind >= MIDDEN_KINDS_BUILT_IN, "midden_kind_new: %d", kind);
  places_row_kind = (midden_kind)kind;
  if (!with_callback) return;
  for (size_t i = 0; i < PLACES_SETS; i++)
    places_reported[i] = places_required(calloc(PLACES_REPORTED, sizeof(void *)));
  midden_set_root_callback(places_report, NULL);
}

/* ---- what lies in them ---- */

static inline midden_word *places_slot(const struct places *places, size_t i) { return test_unhide(places->slot[i]); }

/* What lies in a place, which must be what was put there. */
static void *places_look(const struct places *places, size_t i) {
  void *name = __atomic_load_n(places_slot(places, i), __ATOMIC_RELAXED);
  const struct node *node = node_check(name);
  uint64_t serial = node == NULL ? 0 : node->serial;
  REQUIRE(serial == places->serial[i], "place %zu (%p) of set %zu has node 0x%" PRIx64 ", not 0x%" PRIx64, i,
          (void *)places_slot(places, i), places->set, serial, places->serial[i]);
  return name;
}

static void places_put(struct places *places, size_t i, void *name) {
  const struct node *node = node_check(name);
  places->serial[i] = node == NULL ? 0 : node->serial;
  __atomic_store_n(places_slot(places, i), name, __ATOMIC_RELAXED);
}

/* From here on the caller's frame has it alone. */
static void *places_take(struct places *places, size_t i) {
  void *name = places_look(places, i);
  places_put(places, i, NULL);
  return name;
}

/* What was copied from the one run to the other and back. */
__attribute__((unused)) static void places_swap_notes(struct places *places, size_t first, size_t second,
                                                      size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint64_t serial = places->serial[first + i];
    places->serial[first + i] = places->serial[second + i];
    places->serial[second + i] = serial;
  }
}

static size_t places_filled(const struct places *places) {
  size_t filled = 0;
  for (size_t i = 0; i < places->count; i++) filled += places->serial[i] != 0;
  return filled;
}

#endif

/* Random object graphs against a reachability oracle.
 *
 * Beside the real objects stands a shadow graph in memory from malloc: for each object a node with its identity, its
 * disguised address and its edges.  Random operations change both.  The program only ever touches objects that it finds
 * by walking from a root, as any real program must.
 *
 * After each batch of operations the oracle marks the shadow graph, and then must hold:
 *   safety    every object that the oracle reaches has its contents, its kind, its size and its references;
 *   liveness  every other one is gone after three collections with its finalizer run, told by weak links and by
 *             midden_each_object.
 *
 * The real addresses live only on the stack of functions called from here, which is overwritten before collecting; what
 * a register or a stale stack word still keeps is allowed for by SLACK and counted at the end.
 *
 * Contents.  The image of an object is an endless sequence of words, a function of its identity, cut to its size; the
 * words that hold references replace it.  Its top 16 bits are no address.  One word of memory that the collector must
 * not read holds, as bait, the real address of another object. */
#include "midden/barrier.h"
#include "support/heap_test.h"

enum {
  STATIC_ROOTS = 48,
  THREAD_ROOTS = 16,
  CALLBACK_ROOTS = 32,
  RANGE_SEGMENTS = 8,
  SEGMENT_WORDS = 24,
  RANGE_ROOTS = RANGE_SEGMENTS * SEGMENT_WORDS,
  ROOT_SLOTS = STATIC_ROOTS + THREAD_ROOTS + CALLBACK_ROOTS + RANGE_ROOTS,
  TYPES = 24,
  TYPE_WORDS_MAX = 150,
  LIVE_LIMIT = 12000,
  EXPLICIT_LIMIT = 200,
  MAX_BYTES = 300 << 10
};

/* ---- what kinds of object there are ---- */

enum shape {
  SHAPE_CONSERVATIVE,
  SHAPE_ALIGNED, /* conservative */
  SHAPE_DATA,
  SHAPE_RAW,
  SHAPE_TINY, /* data of at most 8 bytes, which shares its slot */
  SHAPE_TYPED,
  SHAPE_ARRAY,
  SHAPE_TRACED_TYPE,  /* references disguised: only its trace function knows them */
  SHAPE_CUSTOM,       /* a kind with a trace function, references disguised */
  SHAPE_CUSTOM_RANGE, /* a kind whose trace function reports a range of words */
  SHAPE_CUSTOM_DATA,  /* a kind without pointers */
  SHAPE_ROOT,
  SHAPE_ROOT_DATA,
  SHAPE_CUSTOM_ROOT,
  SHAPE_COUNT
};

struct shape_facts {
  const char *name;
  bool bait; /* the collector must not read it, apart from what it says are references */
  bool zeroed;
  bool explicit;  /* lives until freed */
  bool disguised; /* its references are complemented */
  bool resizable;
  unsigned header_words; /* before the references of the shapes that have them in one row */
};

static const struct shape_facts shapes[SHAPE_COUNT] = {
    [SHAPE_CONSERVATIVE] = {"conservative", .zeroed = true, .resizable = true, .header_words = 1},
    [SHAPE_ALIGNED] = {"aligned", .zeroed = true, .header_words = 1},
    [SHAPE_DATA] = {"data", .bait = true, .zeroed = true, .resizable = true},
    [SHAPE_RAW] = {"raw", .bait = true, .resizable = true},
    [SHAPE_TINY] = {"tiny", .zeroed = true},
    [SHAPE_TYPED] = {"typed", .bait = true, .zeroed = true},
    [SHAPE_ARRAY] = {"typed array", .bait = true, .zeroed = true},
    [SHAPE_TRACED_TYPE] = {"traced type", .bait = true, .zeroed = true, .disguised = true},
    [SHAPE_CUSTOM] = {"custom", .bait = true, .zeroed = true, .disguised = true, .resizable = true, .header_words = 2},
    [SHAPE_CUSTOM_RANGE] = {"custom range", .bait = true, .zeroed = true, .resizable = true, .header_words = 2},
    [SHAPE_CUSTOM_DATA] = {"custom data", .bait = true, .resizable = true},
    [SHAPE_ROOT] = {"root", .zeroed = true, .explicit = true, .resizable = true, .header_words = 1},
    [SHAPE_ROOT_DATA] = {"root data", .bait = true, .explicit = true, .resizable = true},
    [SHAPE_CUSTOM_ROOT] = {"custom root", .bait = true, .zeroed = true, .explicit = true, .header_words = 2},
};

static midden_kind kind_of_shape[SHAPE_COUNT];

/* A random type: which words of an element are references. */
struct graph_type {
  struct midden_type type;
  uint64_t pointers[(TYPE_WORDS_MAX + 63) / 64];
  unsigned words;
  unsigned references;
  int reference_at[TYPE_WORDS_MAX]; /* word to reference, or -1 */
  unsigned word_of[TYPE_WORDS_MAX]; /* reference to word */
};

static struct graph_type types[TYPES]; /* odd ones have a trace function */

/* ---- the shadow graph ---- */

struct node;

struct edge {
  struct node *from; /* NULL for a root slot */
  struct node *to;   /* NULL for an empty slot */
  struct edge *next; /* among the edges into `to` */
  struct edge *prev;
  uintptr_t hidden_value; /* the reference as stored, which may point inside `to`; disguised */
};

struct node {
  uint64_t id;
  uintptr_t hidden; /* address of the object, disguised */
  size_t bytes;     /* as asked for */
  enum shape shape;
  const struct graph_type *type;
  unsigned slots;
  struct edge *edges; /* one for each slot */
  struct edge *in;
  unsigned in_count;
  unsigned epoch; /* of the last oracle run that reached it */
  size_t bait_word;
  uintptr_t hidden_bait;
  void *weak; /* the weak link while weak_set: any value but NULL until the collector clears it */
  bool weak_set;
  enum midden_weak_when weak_when;
  bool finalizable;
  bool finalized;
  bool freed; /* by midden_free: its finalizer must never run */
  bool seen;  /* by midden_each_object */
};

struct node_list {
  struct node **nodes;
  size_t count, room;
};

static struct {
  struct rng rng;
  struct node_list live;      /* every node not found dead yet */
  struct node_list explicits; /* the living ones of shapes that live until freed */
  struct node_list dead;      /* unreachable, not all of them seen to be reclaimed */
  struct node_list work;      /* of the oracle */
  struct edge roots[ROOT_SLOTS];
  uintptr_t *range;    /* root slots given to midden_root_add, in segments */
  uintptr_t *callback; /* root slots reported by the root callback, disguised */
  bool segment_is_root[RANGE_SEGMENTS];
  uint64_t next_id;
  unsigned epoch;
  size_t finalizers_run, reclaimed, leftover_max, batches, operations;
} graph;

static uintptr_t static_roots[STATIC_ROOTS];
static _Thread_local uintptr_t thread_roots[THREAD_ROOTS];

static void *xrealloc(void *old, size_t bytes) {
  void *memory = realloc(old, bytes);
  REQUIRE(memory != NULL, "the test itself is out of memory");
  return memory;
}

static void list_add(struct node_list *list, struct node *node) {
  if (list->count == list->room) {
    list->room = list->room == 0 ? 1024 : 2 * list->room;
    list->nodes = xrealloc(list->nodes, list->room * sizeof(*list->nodes));
  }
  list->nodes[list->count++] = node;
}

static void list_drop(struct node_list *list, const struct node *node) {
  for (size_t i = 0; i < list->count; i++) {
    if (list->nodes[i] != node) continue;
    list->nodes[i] = list->nodes[--list->count];
    return;
  }
}

static void edge_cut(struct edge *edge) {
  struct node *to = edge->to;
  if (to == NULL) return;
  if (edge->prev != NULL) {
    edge->prev->next = edge->next;
  } else {
    to->in = edge->next;
  }
  if (edge->next != NULL) edge->next->prev = edge->prev;
  edge->to = NULL;
  to->in_count--;
}

static void edge_point(struct edge *edge, struct node *to) {
  edge_cut(edge);
  edge->to = to;
  edge->prev = NULL;
  edge->next = to->in;
  if (to->in != NULL) to->in->prev = edge;
  to->in = edge;
  to->in_count++;
}

static void node_cut_edges(struct node *node) {
  for (unsigned i = 0; i < node->slots; i++) edge_cut(&node->edges[i]);
}

static void node_delete(struct node *node) {
  free(node->edges);
  free(node);
}

/* ---- contents ---- */

static char *node_object(const struct node *node) { return test_unhide(node->hidden); }

static const struct shape_facts *node_facts(const struct node *node) { return &shapes[node->shape]; }

/* Byte offset of a reference. */
static size_t node_slot_offset(const struct node *node, unsigned slot) {
  const struct graph_type *type = node->type;
  if (type == NULL) return 8 * (size_t)(node_facts(node)->header_words + slot);
  return 8 * ((size_t)(slot / type->references) * type->words + type->word_of[slot % type->references]);
}

static bool node_word_is_slot(const struct node *node, size_t word) {
  if (node->type != NULL) return node->slots != 0 && node->type->reference_at[word % node->type->words] >= 0;
  size_t first = node_facts(node)->header_words;
  return word >= first && word - first < node->slots;
}

/* The word that the object must hold where it holds no reference. */
static uint64_t node_image(const struct node *node, size_t word) {
  if (word == node->bait_word && node->hidden_bait != 0) return ~node->hidden_bait;
  if (word == 1 && node_facts(node)->header_words == 2) return (uint64_t)0x5afe << 48 | node->slots;
  return (uint64_t)0xc0de << 48 | (test_mix(node->id * 0x100000001b3u + word) & 0xffffffffffffu);
}

/* Writes the part of the image that lies in [from, to), leaving references alone. */
static void node_write_image(const struct node *node, size_t from, size_t to) {
  char *object = node_object(node);
  for (size_t word = from / 8; word * 8 < to; word++) {
    if (node_word_is_slot(node, word)) continue;
    uint64_t image = node_image(node, word);
    size_t left = to - word * 8;
    memcpy(object + word * 8, &image, left < 8 ? left : 8);
  }
}

static void node_check_image(const struct node *node, size_t to) {
  const char *object = node_object(node);
  for (size_t word = 0; word * 8 < to; word++) {
    if (node_word_is_slot(node, word)) continue;
    uint64_t image = node_image(node, word);
    size_t left = to - word * 8;
    bool same = memcmp(object + word * 8, &image, left < 8 ? left : 8) == 0;
    REQUIRE(same, "%s object %p, %zu bytes: word %zu is damaged", node_facts(node)->name, (const void *)object,
            node->bytes, word);
  }
}

static void check_zero(const struct node *node, const char *start, const char *end) {
  for (const char *byte = start; byte < end; byte++) {
    REQUIRE(*byte == 0, "%s object %p, %zu bytes: fresh byte %td is not zero", node_facts(node)->name,
            (void *)node_object(node), node->bytes, byte - node_object(node));
  }
}

static void node_check_slots(const struct node *node) {
  const char *object = node_object(node);
  for (unsigned i = 0; i < node->slots; i++) {
    uintptr_t word;
    memcpy(&word, object + node_slot_offset(node, i), sizeof(word));
    const struct edge *edge = &node->edges[i];
    if (edge->to == NULL) {
      REQUIRE(word == 0, "%s object %p: empty slot %u holds a value", node_facts(node)->name, (const void *)object, i);
      continue;
    }
    if (node_facts(node)->disguised) word = ~word;
    REQUIRE(word == ~edge->hidden_value, "%s object %p: slot %u is damaged", node_facts(node)->name,
            (const void *)object, i);
    if (edge->to->shape == SHAPE_TINY) continue;
    REQUIRE(midden_base((void *)word) == node_object(edge->to), "%p in slot %u of %p does not lead to its object",
            (void *)word, i, (const void *)object);
  }
}

static void node_check_answers(const struct node *node) {
  char *object = node_object(node);
  size_t size = midden_size(object);
  const char *name = node_facts(node)->name;
  REQUIRE(midden_owns(object), "%s object %p, %zu bytes: not owned", name, (void *)object, node->bytes);
  REQUIRE(size >= node->bytes, "%s object %p: size %zu, asked for %zu", name, (void *)object, size, node->bytes);
  int kind = midden_kind_of(object);
  REQUIRE(kind == (int)kind_of_shape[node->shape], "%s object %p: kind %d", name, (void *)object, kind);
  REQUIRE(((uintptr_t)object & 15) == 0 || node->shape == SHAPE_TINY, "%s object %p: not aligned", name,
          (void *)object);
  if (node->shape == SHAPE_TINY) return;
  size_t inside = test_mix(node->id + graph.operations) % size;
  REQUIRE(midden_base(object) == object, "%s object %p: wrong base", name, (void *)object);
  REQUIRE(midden_base(object + inside) == object, "%s object %p: wrong base %zu bytes in", name, (void *)object,
          inside);
  REQUIRE(midden_size(object + inside) == size, "%s object %p: another size %zu bytes in", name, (void *)object,
          inside);
}

static void node_check(const struct node *node) {
  node_check_answers(node);
  node_check_image(node, node->bytes);
  node_check_slots(node);
}

/* ---- trace functions and roots of the program's own ---- */

/* Layout of the custom kinds: a word, the tagged count of references, the references.  All zero until it is filled. */
static size_t custom_count(const uint64_t *words, size_t slot_bytes) {
  REQUIRE(words[1] == 0 || words[1] >> 48 == 0x5afe, "trace function called for %p, no object of its kind", words);
  size_t count = (size_t)(words[1] & 0xffffffffffffu);
  REQUIRE(count == 0 || 8 * (count + 2) <= slot_bytes,
          "trace function called for %p with %zu bytes, has %zu references", words, slot_bytes, count);
  return count;
}

static int custom_argument;

static void trace_disguised(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  const uint64_t *words = object;
  REQUIRE(argument == &custom_argument, "trace function called with another argument");
  size_t count = custom_count(words, slot_bytes);
  for (size_t i = 0; i < count; i++) midden_trace(tracer, words[2 + i] == 0 ? NULL : (void *)~words[2 + i]);
}

static void trace_words(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  const uint64_t *words = object;
  (void)argument;
  size_t count = custom_count(words, slot_bytes);
  if (count != 0) midden_trace_range(tracer, words + 2, words + 2 + count);
}

static void trace_element(void *element, size_t bytes, struct midden_tracer *tracer, void *argument) {
  const struct graph_type *type = argument;
  const uint64_t *words = element;
  REQUIRE(bytes == type->type.size, "trace function of a type called with %zu bytes, not %zu", bytes, type->type.size);
  for (unsigned i = 0; i < type->references; i++) {
    uint64_t word = words[type->word_of[i]];
    if (word != 0) midden_trace(tracer, (void *)~word);
  }
}

static void trace_callback_roots(struct midden_tracer *tracer, void *argument) {
  const uintptr_t *roots = argument;
  for (size_t i = 0; i < CALLBACK_ROOTS; i++) {
    if (roots[i] != 0) midden_trace(tracer, (void *)~roots[i]);
  }
}

/* ---- references and root slots ---- */

/* A way to name `to`: its address, or now and then one inside. */
static uintptr_t reference_to(const struct node *to) {
  uintptr_t address = (uintptr_t)node_object(to);
  if (to->shape == SHAPE_TINY || !rng_one_in(&graph.rng, 4)) return address;
  return address + rng_below(&graph.rng, to->bytes);
}

/* Stores a reference disguised: a barrier of the program's own. */
static void store_disguised(void *slot, uintptr_t value) {
  uintptr_t *word = slot;
  bool active = midden_barrier_begin();
  uintptr_t old = *word;
  __atomic_store_n(word, value == 0 ? 0 : ~value, __ATOMIC_RELEASE);
  if (active) {
    midden_barrier_record(slot, old == 0 ? NULL : (void *)~old, (void *)value);
  } else {
    midden_barrier_end();
  }
}

static void root_write(size_t root, uintptr_t value) {
  if (root < STATIC_ROOTS) {
    midden_store(&static_roots[root], (void *)value);
  } else if ((root -= STATIC_ROOTS) < THREAD_ROOTS) {
    midden_store(&thread_roots[root], (void *)value);
  } else if ((root -= THREAD_ROOTS) < CALLBACK_ROOTS) {
    store_disguised(&graph.callback[root], value);
  } else {
    midden_store(&graph.range[root - CALLBACK_ROOTS], (void *)value);
  }
}

static uintptr_t root_read(size_t root) {
  if (root < STATIC_ROOTS) return static_roots[root];
  if ((root -= STATIC_ROOTS) < THREAD_ROOTS) return thread_roots[root];
  if ((root -= THREAD_ROOTS) < CALLBACK_ROOTS) return graph.callback[root] == 0 ? 0 : ~graph.callback[root];
  return graph.range[root - CALLBACK_ROOTS];
}

static bool root_is_usable(size_t root) {
  size_t first = ROOT_SLOTS - RANGE_ROOTS;
  return root < first || graph.segment_is_root[(root - first) / SEGMENT_WORDS];
}

/* Makes a slot of an object, or of the roots, refer to `to`; NULL empties it. */
static void slot_set(struct edge *edge, struct node *to) {
  uintptr_t value = to == NULL ? 0 : reference_to(to);
  if (to == NULL) {
    edge_cut(edge);
  } else {
    edge_point(edge, to);
    edge->hidden_value = ~value;
  }
  if (edge->from == NULL) {
    root_write((size_t)(edge - graph.roots), value);
    return;
  }
  const struct node *from = edge->from;
  void *slot = node_object(from) + node_slot_offset(from, (unsigned)(edge - from->edges));
  if (node_facts(from)->disguised) {
    store_disguised(slot, value);
  } else {
    midden_store(slot, (void *)value);
  }
}

static struct edge *random_root(void) {
  size_t root;
  do root = rng_below(&graph.rng, ROOT_SLOTS);
  while (!root_is_usable(root));
  return &graph.roots[root];
}

static struct edge *random_full_slot(const struct node *node) {
  if (node->slots == 0) return NULL;
  for (int tries = 0; tries < 3; tries++) {
    struct edge *edge = &node->edges[rng_below(&graph.rng, node->slots)];
    if (edge->to != NULL) return edge;
  }
  return NULL;
}

struct place {
  struct node *node;
  struct edge *by; /* the reference that the walk came by; NULL where the object is itself a root */
};

/* Walks from a random root for a random while.  {NULL, NULL} where the root was empty. */
static struct place random_walk(void) {
  struct place place = {NULL, NULL};
  if (graph.explicits.count != 0 && rng_one_in(&graph.rng, 8)) {
    place.node = graph.explicits.nodes[rng_below(&graph.rng, graph.explicits.count)];
  } else {
    place.by = random_root();
    place.node = place.by->to;
  }
  if (place.node == NULL) return place;
  while (!rng_one_in(&graph.rng, 6)) {
    struct edge *edge = random_full_slot(place.node);
    if (edge == NULL) break;
    place = (struct place){edge->to, edge};
  }
  return place;
}

/* A slot to store a new reference in: an empty one where chance finds it. */
static struct edge *random_slot(void) {
  for (int tries = 0; tries < 4; tries++) {
    struct node *holder = random_walk().node;
    if (holder == NULL || holder->slots == 0) continue;
    struct edge *edge = &holder->edges[rng_below(&graph.rng, holder->slots)];
    if (edge->to == NULL || rng_one_in(&graph.rng, 3)) return edge;
  }
  return random_root();
}

/* ---- weak links and finalizers ---- */

static void node_set_weak(struct node *node) {
  node->weak = (void *)node->hidden;
  node->weak_when = rng_one_in(&graph.rng, 2) ? MIDDEN_WEAK_BEFORE_FINALIZERS : MIDDEN_WEAK_AFTER_FINALIZERS;
  int error = midden_weak_link(&node->weak, node_object(node), node->weak_when);
  REQUIRE(error == 0, "midden_weak_link: %d", error);
  node->weak_set = true;
}

static void node_drop_weak(struct node *node) {
  if (!node->weak_set) return;
  REQUIRE(node->weak != NULL, "weak link of a living object was cleared");
  int error = midden_weak_unlink(&node->weak, node->weak_when);
  REQUIRE(error == 0, "midden_weak_unlink: %d", error);
  node->weak_set = false;
}

static void finalize(void *object, void *argument) {
  struct node *node = argument;
  REQUIRE(object == node_object(node), "finalizer called for %p, not %p", object, (void *)node_object(node));
  REQUIRE(!node->freed, "finalizer called for the freed object %p", object);
  REQUIRE(!node->finalized, "finalizer called again for %p", object);
  REQUIRE(node->epoch != graph.epoch, "finalizer called for the living object %p", object);
  node_check_answers(node);
  node_check_image(node, node->bytes);
  node->finalized = true;
  graph.finalizers_run++;
}

static void node_set_finalizer(struct node *node) {
  midden_finalizer_fn *old = finalize;
  int error = midden_finalizer_set(node_object(node), finalize, node, MIDDEN_FINALIZE_UNORDERED, &old, NULL);
  REQUIRE(error == 0 && old == NULL, "midden_finalizer_set: %d", error);
  node->finalizable = true;
}

/* ---- operations ---- */

static size_t shape_random_bytes(enum shape shape) {
  if (shape == SHAPE_TINY) return 1 + rng_below(&graph.rng, 8);
  size_t limit = rng_one_in(&graph.rng, 400) ? MAX_BYTES : rng_one_in(&graph.rng, 20) ? 20000 : 600;
  size_t bytes = rng_size(&graph.rng, limit);
  size_t least = 8 * (size_t)shapes[shape].header_words;
  if (least < 9) least = 9;
  return bytes < least ? least : bytes;
}

static void node_choose_slots(struct node *node) {
  if (node->type != NULL) {
    node->slots = (unsigned)(node->bytes / (8 * node->type->words)) * node->type->references;
  } else if (node_facts(node)->header_words != 0 && node->bytes / 8 > node_facts(node)->header_words) {
    size_t most = node->bytes / 8 - node_facts(node)->header_words;
    node->slots = (unsigned)(1 + rng_below(&graph.rng, most < 12 ? most : 12));
  }
  if (node->slots != 0) node->edges = xrealloc(NULL, node->slots * sizeof(*node->edges));
  for (unsigned i = 0; i < node->slots; i++) node->edges[i] = (struct edge){.from = node};
}

static void *allocate_typed(struct node *node) {
  bool traced = node->shape == SHAPE_TRACED_TYPE;
  node->type = &types[2 * rng_below(&graph.rng, TYPES / 2) + traced];
  size_t count = 1;
  if (node->shape == SHAPE_ARRAY || (traced && rng_one_in(&graph.rng, 2))) count = 1 + rng_below(&graph.rng, 20);
  node->bytes = count * node->type->type.size;
  if (count == 1 && node->shape != SHAPE_ARRAY) return midden_alloc_type(&node->type->type);
  return midden_alloc_array(&node->type->type, count);
}

static void *allocate_aligned(struct node *node) {
  size_t alignment = (size_t)1 << rng_below(&graph.rng, rng_one_in(&graph.rng, 50) ? 17 : 10);
  char *object = midden_alloc_aligned(MIDDEN_CONSERVATIVE, alignment, node->bytes);
  REQUIRE(((uintptr_t)object & (alignment - 1)) == 0, "object %p is not aligned to %zu", (void *)object, alignment);
  return object;
}

static void *allocate_shape(struct node *node) {
  node->bytes = shape_random_bytes(node->shape);
  switch (node->shape) {
    case SHAPE_CONSERVATIVE:
      if (rng_one_in(&graph.rng, 2)) return midden_alloc(node->bytes);
      break;
    case SHAPE_ALIGNED:
      return allocate_aligned(node);
    case SHAPE_DATA:
    case SHAPE_TINY:
      return midden_alloc_data(node->bytes);
    case SHAPE_TYPED:
    case SHAPE_ARRAY:
    case SHAPE_TRACED_TYPE:
      return allocate_typed(node);
    case SHAPE_ROOT:
      if (rng_one_in(&graph.rng, 2)) return midden_alloc_root(node->bytes);
      break;
    default:
      break;
  }
  return midden_alloc_kind(kind_of_shape[node->shape], node->bytes);
}

/* Which words hold the bait, if any: where the collector must not look. */
static void node_choose_bait(struct node *node) {
  node->bait_word = SIZE_MAX;
  if (!node_facts(node)->bait || node->bytes < 8) return;
  size_t word = rng_below(&graph.rng, node->bytes / 8);
  if (node_word_is_slot(node, word) || word < node_facts(node)->header_words) return;
  struct node *victim = random_walk().node;
  if (victim == NULL) return;
  node->bait_word = word;
  node->hidden_bait = victim->hidden;
}

static enum shape random_shape(void) {
  if (rng_one_in(&graph.rng, 3)) return SHAPE_CONSERVATIVE;
  enum shape shape = (enum shape)rng_below(&graph.rng, SHAPE_COUNT);
  bool too_many = shapes[shape].explicit && graph.explicits.count >= EXPLICIT_LIMIT;
  return too_many ? SHAPE_TYPED : shape;
}

/* Enters a fresh object into the shadow graph: checks it, fills it, arms it. */
static struct node *node_adopt(struct node *node, char *object) {
  REQUIRE(object != NULL, "out of memory");
  node->hidden = test_hide(object);
  node->id = graph.next_id++;
  node_choose_slots(node);
  if (node_facts(node)->zeroed) {
    bool whole = node->type == NULL && node->shape != SHAPE_TINY;
    check_zero(node, object, object + (whole ? midden_size(object) : node->bytes));
  }
  node_choose_bait(node);
  node_write_image(node, 0, node->bytes);
  list_add(&graph.live, node);
  if (node_facts(node)->explicit) list_add(&graph.explicits, node);
  if (node->shape == SHAPE_TINY) return node;
  if (!rng_one_in(&graph.rng, 3)) node_set_weak(node);
  if (!node_facts(node)->explicit && rng_one_in(&graph.rng, 30)) node_set_finalizer(node);
  return node;
}

static struct node *node_new(enum shape shape) {
  struct node *node = calloc(1, sizeof(*node));
  REQUIRE(node != NULL, "the test itself is out of memory");
  node->shape = shape;
  return node;
}

static void op_allocate(void) {
  struct node *node = node_new(random_shape());
  node_adopt(node, allocate_shape(node));
  if (node_facts(node)->explicit && rng_one_in(&graph.rng, 2)) return;
  slot_set(random_slot(), node);
}

/* Takes a list of objects and enters some of them; the rest is garbage.  `object` holds what is not entered yet. */
static void op_allocate_many(void) {
  size_t bytes = 16 + rng_below(&graph.rng, 200);
  void *list;
  size_t count = midden_alloc_many(MIDDEN_CONSERVATIVE, bytes, &list);
  char *object = list;
  REQUIRE(object != NULL && count != 0, "midden_alloc_many gave nothing");
  size_t length = 0;
  while (object != NULL) {
    char *next = *(char **)object;
    *(char **)object = NULL;
    length++;
    if (rng_one_in(&graph.rng, 16)) {
      struct node *node = node_new(SHAPE_CONSERVATIVE);
      node->bytes = bytes;
      slot_set(random_slot(), node_adopt(node, object));
    }
    object = next;
  }
  REQUIRE(length == count, "midden_alloc_many: %zu objects, said %zu", length, count);
}

static void op_link(void) {
  struct node *to = random_walk().node;
  if (to != NULL) slot_set(random_slot(), to);
}

static void op_unlink(void) {
  struct node *holder = random_walk().node;
  if (holder == NULL) return;
  struct edge *edge = random_full_slot(holder);
  if (edge != NULL) slot_set(edge, NULL);
}

static void op_root(void) {
  struct edge *root = random_root();
  slot_set(root, rng_one_in(&graph.rng, 3) ? NULL : random_walk().node);
}

/* Only an object to which a single reference is known may be freed or moved: one that lies in an object of which the
 * program lost sight could not be changed. */
static bool place_is_sole(struct place place) {
  return place.node != NULL && place.node->in_count == (place.by == NULL ? 0 : 1);
}

static void op_free(void) {
  struct place place = random_walk();
  struct node *node = place.node;
  if (!place_is_sole(place) || node->shape == SHAPE_TINY) return;
  if (place.by != NULL) slot_set(place.by, NULL);
  midden_free(node_object(node));
  REQUIRE(!node->weak_set || node->weak == NULL, "midden_free left the weak link of %p", (void *)node_object(node));
  node->weak_set = false;
  node_cut_edges(node);
  list_drop(&graph.live, node);
  if (node_facts(node)->explicit) list_drop(&graph.explicits, node);
  if (node->finalizable) {
    node->freed = true;
    list_add(&graph.dead, node);
  } else {
    node_delete(node);
  }
}

static void op_realloc(void) {
  struct place place = random_walk();
  struct node *node = place.node;
  if (!place_is_sole(place) || !node_facts(node)->resizable || node->finalizable) return;
  size_t least = 8 * (size_t)(node_facts(node)->header_words + node->slots);
  size_t bytes = shape_random_bytes(node->shape), old_bytes = node->bytes;
  if (bytes < least) bytes = least;
  bool weak = node->weak_set;
  node_drop_weak(node);
  char *object = midden_realloc(node_object(node), bytes);
  REQUIRE(object != NULL, "out of memory");
  node->hidden = test_hide(object);
  node_check_image(node, bytes < old_bytes ? bytes : old_bytes);
  if (node_facts(node)->zeroed && bytes > old_bytes) check_zero(node, object + old_bytes, object + bytes);
  node->bytes = bytes;
  node_write_image(node, old_bytes < bytes ? old_bytes : bytes, bytes);
  if (weak) node_set_weak(node);
  if (place.by != NULL) slot_set(place.by, node);
  node_check(node);
}

static void op_check(void) {
  struct node *node = random_walk().node;
  if (node != NULL) node_check(node);
}

static void op_weak(void) {
  struct node *node = random_walk().node;
  if (node == NULL || node->shape == SHAPE_TINY) return;
  node_drop_weak(node);
  if (!rng_one_in(&graph.rng, 3)) node_set_weak(node);
}

static struct edge *segment_edges(size_t segment) {
  return &graph.roots[ROOT_SLOTS - RANGE_ROOTS + segment * SEGMENT_WORDS];
}

/* What the segment holds is no longer a root but stays there, for the collector to overlook. */
static void segment_lose(size_t segment) {
  for (size_t i = 0; i < SEGMENT_WORDS; i++) edge_cut(segment_edges(segment) + i);
  graph.segment_is_root[segment] = false;
}

static void op_segment(void) {
  size_t segment = rng_below(&graph.rng, RANGE_SEGMENTS);
  uintptr_t *start = graph.range + segment * SEGMENT_WORDS;
  if (rng_one_in(&graph.rng, 20)) {
    midden_root_clear();
    for (size_t i = 0; i < RANGE_SEGMENTS; i++) segment_lose(i);
  } else if (graph.segment_is_root[segment]) {
    midden_root_remove(start, start + SEGMENT_WORDS);
    segment_lose(segment);
  } else {
    memset(start, 0, SEGMENT_WORDS * sizeof(*start));
    REQUIRE(midden_root_add(start, start + SEGMENT_WORDS) == 0, "midden_root_add");
    graph.segment_is_root[segment] = true;
  }
}

static void op_setting(void) {
  switch (rng_below(&graph.rng, 4)) {
    case 0:
      midden_set_percent(10 + (int)rng_below(&graph.rng, 300));
      break;
    case 1:
      midden_set_markers(1 + (unsigned)rng_below(&graph.rng, 4));
      break;
    case 2:
      midden_release_memory();
      break;
    default:
      midden_collect();
  }
}

struct operation {
  void (*run)(void);
  unsigned weight;
};

static const struct operation operations[] = {
    {op_allocate, 4400}, {op_link, 2000}, {op_unlink, 1700}, {op_root, 400},        {op_free, 500},  {op_realloc, 400},
    {op_check, 300},     {op_weak, 200},  {op_segment, 4},   {op_allocate_many, 4}, {op_setting, 3},
};

NOINLINE_TEST static void run_operations(size_t count) {
  unsigned total = 0;
  for (size_t i = 0; i < TEST_COUNT_OF(operations); i++) total += operations[i].weight;
  for (size_t i = 0; i < count; i++) {
    size_t at = rng_below(&graph.rng, total), operation = 0;
    while (at >= operations[operation].weight) at -= operations[operation++].weight;
    operations[operation].run();
    graph.operations++;
  }
}

/* ---- the oracle ---- */

static void oracle_reach(struct node *node) {
  if (node == NULL || node->epoch == graph.epoch) return;
  node->epoch = graph.epoch;
  list_add(&graph.work, node);
}

static void oracle_mark(void) {
  graph.epoch++;
  for (size_t i = 0; i < ROOT_SLOTS; i++) oracle_reach(graph.roots[i].to);
  for (size_t i = 0; i < graph.explicits.count; i++) oracle_reach(graph.explicits.nodes[i]);
  while (graph.work.count != 0) {
    struct node *node = graph.work.nodes[--graph.work.count];
    for (unsigned i = 0; i < node->slots; i++) oracle_reach(node->edges[i].to);
  }
}

/* Moves the nodes that the oracle did not reach to the dead.  All of them first, then their edges: they may refer to
 * each other. */
static void oracle_bury(void) {
  size_t kept = 0, first = graph.dead.count;
  for (size_t i = 0; i < graph.live.count; i++) {
    struct node *node = graph.live.nodes[i];
    if (node->epoch == graph.epoch) {
      graph.live.nodes[kept++] = node;
    } else {
      list_add(&graph.dead, node);
    }
  }
  graph.live.count = kept;
  for (size_t i = first; i < graph.dead.count; i++) node_cut_edges(graph.dead.nodes[i]);
}

/* The dead may be mentioned by other dead only, all cut by now. */
static void oracle_forget_reclaimed(size_t *leftover) {
  size_t kept = 0;
  *leftover = 0;
  for (size_t i = 0; i < graph.dead.count; i++) {
    struct node *node = graph.dead.nodes[i];
    bool waits = node->finalizable && !node->finalized && !node->freed;
    if (waits || (node->weak_set && node->weak != NULL)) {
      graph.dead.nodes[kept++] = node;
      ++*leftover;
    } else {
      graph.reclaimed++;
      node_delete(node);
    }
  }
  graph.dead.count = kept;
}

NOINLINE_TEST static void check_living(void) {
  for (size_t i = 0; i < graph.live.count; i++) {
    const struct node *node = graph.live.nodes[i];
    node_check(node);
    REQUIRE(!node->weak_set || node->weak != NULL, "weak link of the living %s object %p was cleared",
            node_facts(node)->name, (void *)node_object(node));
  }
  for (size_t i = 0; i < ROOT_SLOTS; i++) {
    if (graph.roots[i].to == NULL) continue;
    REQUIRE(root_read(i) == ~graph.roots[i].hidden_value, "root %zu is damaged", i);
  }
}

/* ---- the census: what midden_each_object visits against the living ---- */

struct census {
  struct node **table; /* by address, open addressing */
  size_t mask;
  size_t strangers; /* visited, but not known to be alive */
};

static size_t census_hash(uintptr_t hidden, size_t mask) { return (size_t)test_mix(hidden) & mask; }

static void census_visit(void *object, size_t slot_bytes, midden_kind kind, void *argument) {
  struct census *census = argument;
  uintptr_t hidden = test_hide(object);
  size_t at = census_hash(hidden, census->mask);
  while (census->table[at] != NULL && census->table[at]->hidden != hidden) at = (at + 1) & census->mask;
  struct node *node = census->table[at];
  if (node == NULL) {
    census->strangers++;
    return;
  }
  REQUIRE(!node->seen, "%p visited twice", object);
  REQUIRE(kind == kind_of_shape[node->shape] && slot_bytes >= node->bytes, "%p visited with kind %u, %zu bytes", object,
          kind, slot_bytes);
  node->seen = true;
}

/* Returns how many living objects the collector knows beyond the oracle's. */
NOINLINE_TEST static size_t take_census(void) {
  struct census census = {.mask = 1023};
  while (census.mask < 2 * graph.live.count) census.mask = 2 * census.mask + 1;
  census.table = calloc(census.mask + 1, sizeof(*census.table));
  REQUIRE(census.table != NULL, "the test itself is out of memory");
  size_t tiny = 0;
  for (size_t i = 0; i < graph.live.count; i++) {
    struct node *node = graph.live.nodes[i];
    node->seen = false;
    tiny += node->shape == SHAPE_TINY;
    size_t at = census_hash(node->hidden, census.mask);
    while (census.table[at] != NULL) at = (at + 1) & census.mask;
    if (node->shape != SHAPE_TINY) census.table[at] = node;
  }
  midden_each_object(census_visit, &census);
  for (size_t i = 0; i < graph.live.count; i++) {
    const struct node *node = graph.live.nodes[i];
    REQUIRE(node->seen || node->shape == SHAPE_TINY, "the living %s object %p was not visited", node_facts(node)->name,
            (void *)node_object(node));
  }
  free(census.table);
  return census.strangers > tiny ? census.strangers - tiny : 0;
}

/* ---- batches ---- */

NOINLINE_TEST static void run_finalizers(void) {
  while (midden_finalizers_ready()) {
    size_t before = graph.finalizers_run, most = 1 + rng_below(&graph.rng, 50);
    size_t count = midden_finalizers_run(most);
    REQUIRE(count <= most && count == graph.finalizers_run - before, "midden_finalizers_run: %zu, ran %zu", count,
            graph.finalizers_run - before);
  }
}

/* The dead kept by a stale word in a register or on the stack, and what they refer to.  Seen in practice: none. */
static size_t slack(size_t dead) { return 8 + dead / 1000; }

/* Its frame must not open on words that operations left there: see main. */
NOINLINE_TEST static void collect_and_compare(void) {
  oracle_mark();
  oracle_bury();
  size_t dead = graph.dead.count, leftover;
  uint64_t collections = test_stats().collections;
  /* Finalizers that earlier collections made ready, then the dead, then those that waited for their finalizers. */
  for (int i = 0; i < 3; i++) {
    run_finalizers();
    test_collect_clean();
  }
  struct midden_stats stats = test_stats();
  REQUIRE(stats.collections >= collections + 3, "midden_collect did not collect");
  REQUIRE(stats.heap_in_use <= stats.heap_system && stats.heap_released <= stats.heap_idle, "figures out of line");
  check_living();
  oracle_forget_reclaimed(&leftover);
  size_t strangers = take_census();
  REQUIRE(leftover <= slack(dead), "%zu of %zu dead objects were not reclaimed", leftover, dead);
  REQUIRE(strangers <= slack(dead), "%zu objects live that nobody reaches; %zu died", strangers, dead);
  if (leftover > graph.leftover_max) graph.leftover_max = leftover;
  graph.batches++;
}

/* Empties some roots where the graph grew too large, and all of them now and then. */
NOINLINE_TEST static void prune(void) {
  bool all = rng_one_in(&graph.rng, 25);
  if (!all && graph.live.count < LIVE_LIMIT) return;
  for (size_t i = 0; i < ROOT_SLOTS; i++) {
    if (root_is_usable(i) && (all || rng_one_in(&graph.rng, 2))) slot_set(&graph.roots[i], NULL);
  }
  for (size_t i = graph.explicits.count; i-- > 0;) {
    struct node *node = graph.explicits.nodes[i];
    for (unsigned slot = 0; slot < node->slots; slot++) {
      if (all || rng_one_in(&graph.rng, 2)) slot_set(&node->edges[slot], NULL);
    }
  }
}

/* ---- start ---- */

static midden_kind new_kind(const char *name, midden_trace_fn *trace, bool no_pointers, bool root) {
  struct midden_kind_options options = {.size = sizeof(options),
                                        .name = name,
                                        .trace = trace,
                                        .argument = &custom_argument,
                                        .no_pointers = no_pointers,
                                        .not_zeroed = no_pointers,
                                        .root = root};
  int kind = midden_kind_new(&options);
  REQUIRE(kind >= MIDDEN_KINDS_BUILT_IN, "midden_kind_new: %d", kind);
  return (midden_kind)kind;
}

static void make_kinds(void) {
  const midden_kind built_in[SHAPE_COUNT] = {
      [SHAPE_CONSERVATIVE] = MIDDEN_CONSERVATIVE,
      [SHAPE_ALIGNED] = MIDDEN_CONSERVATIVE,
      [SHAPE_DATA] = MIDDEN_DATA,
      [SHAPE_RAW] = MIDDEN_RAW,
      [SHAPE_TINY] = MIDDEN_DATA,
      [SHAPE_TYPED] = MIDDEN_TYPED,
      [SHAPE_ARRAY] = MIDDEN_TYPED,
      [SHAPE_TRACED_TYPE] = MIDDEN_TYPED,
      [SHAPE_ROOT] = MIDDEN_ROOT,
      [SHAPE_ROOT_DATA] = MIDDEN_ROOT_DATA,
  };
  memcpy(kind_of_shape, built_in, sizeof(built_in));
  kind_of_shape[SHAPE_CUSTOM] = new_kind("disguised", trace_disguised, false, false);
  kind_of_shape[SHAPE_CUSTOM_RANGE] = new_kind("range", trace_words, false, false);
  kind_of_shape[SHAPE_CUSTOM_DATA] = new_kind("data", NULL, true, false);
  kind_of_shape[SHAPE_CUSTOM_ROOT] = new_kind("root", trace_words, false, true);
}

static void make_type(struct graph_type *type, bool traced) {
  type->words = 2 + (unsigned)rng_size(&graph.rng, TYPE_WORDS_MAX - 2);
  for (unsigned word = 0; word < type->words; word++) {
    type->reference_at[word] = -1;
    if (word != 0 && !rng_one_in(&graph.rng, 3)) continue;
    type->reference_at[word] = (int)type->references;
    type->word_of[type->references++] = word;
    type->pointers[word / 64] |= (uint64_t)1 << (word % 64);
  }
  type->type = (struct midden_type){.name = "random", .size = 8 * (size_t)type->words, .pointers = type->pointers};
  if (!traced) return;
  type->type.pointers = NULL;
  type->type.trace = trace_element;
  type->type.argument = type;
}

static void set_up(struct rng rng) {
  graph.rng = rng;
  make_kinds();
  for (size_t i = 0; i < TYPES; i++) make_type(&types[i], i % 2 == 1);
  graph.range = xrealloc(NULL, RANGE_ROOTS * sizeof(*graph.range));
  graph.callback = calloc(CALLBACK_ROOTS, sizeof(*graph.callback));
  REQUIRE(graph.callback != NULL, "the test itself is out of memory");
  midden_set_root_callback(trace_callback_roots, graph.callback);
}

int main(void) {
  struct rng rng = test_start("test_graph");
  size_t steps = test_steps(1000000);
  set_up(rng);
  while (graph.operations < steps) {
    run_operations(500 + rng_below(&graph.rng, 8000));
    prune();
    test_scrub_stack();
    collect_and_compare();
    if (rng_one_in(&graph.rng, 8)) midden_verify();
  }
  printf("test_graph: %zu operations, %zu batches, %zu objects reclaimed, %zu finalized, at most %zu left over\n",
         graph.operations, graph.batches, graph.reclaimed, graph.finalizers_run, graph.leftover_max);
  return 0;
}

/* The public interface under a stream of operations, against a shadow of the heap.
 *
 * A node stands for each object: its identity, from which its contents follow, its disguised address, its references and
 * what is registered for it.  Objects are only touched on a walk from the root table, as a real program must.  The table
 * and the nodes lie in memory that the collector does not read, but for the words of the table given to midden_root_add.
 *
 * What must hold, at the end and wherever an input asks for it:
 *   each object reached from a root (or the argument of a finalizer, or an object of a root kind) has its contents,
 *   kind, size and references, and its weak link stands;
 *   a finalizer runs once, and not while its object is reachable (unless it was made ready before that);
 *   after two collections every other object is gone, as its weak link tells.  What a stale word of the stack may keep
 *   is allowed for: SLACK objects, and what they reach.
 *
 * The library lives as long as the process.  After each input all roots and limits are taken back, every finalizer is
 * run, and everything must go. */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "midden/midden.h"

#define NOINLINE __attribute__((noinline))

enum {
  NODES = 1024,
  ROOTS = 32,
  EDGES = 4,
  NONE = -1,
  TYPES = 4,
  SIZE_BITS = 21,
  LIVE_LIMIT = 64 << 20,
  SLACK = 8,
  SCRUB_BYTES = 96 << 10,
  DENSE_BYTES = 4096, /* larger objects are filled and compared at some places only */
  SPARSE_STEP = 512
};

struct node {
  uint64_t id;
  uintptr_t hidden; /* the address's complement */
  size_t bytes;     /* as asked for */
  int kind;
  int type;        /* or NONE */
  size_t count;    /* elements of a typed object */
  int edge[EDGES]; /* nodes referred to */
  uintptr_t hidden_edge[EDGES];
  bool tiny, freed, gone;
  bool reached;     /* by the walk that ran last */
  bool early;       /* its finalizer may run while it is reachable */
  unsigned pending; /* finalizers registered or ready */
  int argument;     /* node that the finalizer's argument keeps */
  void *weak[2];    /* two places for a weak link */
  int weak_at;      /* the registered one, or NONE */
  enum midden_weak_when weak_when;
};

static struct {
  struct node nodes[NODES];
  int count;
  int root[ROOTS];
  bool is_root[ROOTS];
  size_t live_bytes;
  unsigned disabled;
  bool is_limited;  /* allocations may fail */
  int resurrect_to; /* root that the next finalizer stores its object in, or NONE */
} shadow;

static void **root_words;
static int custom_kind;
static uint64_t next_id = 1;

static void *address_of(const struct node *node) { return (void *)~node->hidden; }
static int index_of(const struct node *node) { return (int)(node - shadow.nodes); }

/* ---- types ---- */

struct type_facts {
  unsigned words, pointers, at[2];
};

static const struct type_facts type_facts[TYPES] = {{2, 1, {1}}, {6, 2, {0, 5}}, {70, 2, {1, 69}}, {3, 0, {0}}};
static uint64_t type_bits[TYPES][2];
static struct midden_type types[TYPES];

static void make_types(void) {
  for (int i = 0; i < TYPES; i++) {
    for (unsigned k = 0; k < type_facts[i].pointers; k++)
      type_bits[i][type_facts[i].at[k] / 64] |= UINT64_C(1) << type_facts[i].at[k] % 64;
    types[i] = (struct midden_type){"fuzzed", type_facts[i].words * sizeof(void *), type_bits[i], NULL, NULL};
  }
  types[3].pointers = NULL;
}

/* A kind whose first words are references in disguise, which only its trace function can read. */
static void trace_custom(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  (void)argument;
  const uintptr_t *words = object;
  for (size_t i = 0; i < EDGES && i < slot_bytes / sizeof(*words); i++) {
    if (words[i] != 0) midden_trace(tracer, (void *)~words[i]);
  }
}

/* ---- layout and contents ---- */

static bool has_pointers(const struct node *node) {
  return node->kind == MIDDEN_CONSERVATIVE || node->kind == MIDDEN_ROOT || node->kind == custom_kind ||
         node->kind == MIDDEN_TYPED;
}

static bool is_explicit(const struct node *node) { return node->kind == MIDDEN_ROOT || node->kind == MIDDEN_ROOT_DATA; }
static bool is_zeroed(int kind) { return kind != MIDDEN_RAW && kind != MIDDEN_ROOT_DATA; }

/* Where reference `edge` lies, in bytes; SIZE_MAX for none. */
static size_t edge_offset(const struct node *node, int edge) {
  if (!has_pointers(node)) return SIZE_MAX;
  if (node->type == NONE) {
    size_t offset = (size_t)edge * sizeof(void *);
    return offset + sizeof(void *) <= node->bytes ? offset : SIZE_MAX;
  }
  const struct type_facts *facts = &type_facts[node->type];
  size_t which = (size_t)edge / 2, element = edge % 2 == 0 ? 0 : node->count - 1;
  if (which >= facts->pointers || node->count == 0 || (edge % 2 == 1 && node->count == 1)) return SIZE_MAX;
  return (element * facts->words + facts->at[which]) * sizeof(void *);
}

/* Whether the program never writes to a word, and so must read it as zero. */
static bool is_unused_pointer(const struct node *node, size_t offset) {
  if (node->type == NONE) return false;
  const struct type_facts *facts = &type_facts[node->type];
  size_t word = offset / sizeof(void *) % facts->words;
  for (unsigned i = 0; i < facts->pointers; i++) {
    if (word == facts->at[i]) return true;
  }
  return false;
}

static uintptr_t stored_edge(const struct node *node, int edge) {
  if (node->edge[edge] == NONE) return 0;
  return node->kind == custom_kind ? node->hidden_edge[edge] : ~node->hidden_edge[edge];
}

/* Never an address, nor the complement of one. */
static uint64_t pattern(const struct node *node, size_t offset) {
  uint64_t value = (node->id * UINT64_C(0x9e3779b97f4a7c15)) ^ (offset * UINT64_C(0xbf58476d1ce4e5b9));
  return (value >> 16) | UINT64_C(0x5a5a) << 48;
}

static uint64_t expected_word(const struct node *node, size_t offset) {
  for (int i = 0; i < EDGES; i++) {
    if (edge_offset(node, i) == offset) return stored_edge(node, i);
  }
  return is_unused_pointer(node, offset) ? 0 : pattern(node, offset);
}

/* Places at which the contents are written and compared: all of a small object, some of a large one. */
static size_t next_offset(const struct node *node, size_t offset) {
  bool sparse = node->bytes > DENSE_BYTES && offset >= DENSE_BYTES / 2 && offset + DENSE_BYTES / 2 < node->bytes;
  return offset + (sparse && node->type == NONE ? SPARSE_STEP : sizeof(uint64_t));
}

static size_t piece(const struct node *node, size_t offset) {
  size_t rest = node->bytes - offset;
  return rest < sizeof(uint64_t) ? rest : sizeof(uint64_t);
}

static NOINLINE void fill(const struct node *node) {
  char *object = address_of(node);
  for (size_t offset = 0; offset < node->bytes; offset = next_offset(node, offset)) {
    uint64_t word = expected_word(node, offset);
    memcpy(object + offset, &word, piece(node, offset));
  }
}

static NOINLINE void check_contents(const struct node *node, size_t bytes) {
  const char *object = address_of(node);
  for (size_t offset = 0; offset < bytes; offset = next_offset(node, offset)) {
    uint64_t word = expected_word(node, offset);
    size_t length = bytes - offset < sizeof(word) ? bytes - offset : sizeof(word);
    FUZZ_REQUIRE(memcmp(object + offset, &word, length) == 0, "byte %zu of an object of kind %d, %zu bytes", offset,
                 node->kind, node->bytes);
  }
}

static void check_zero(const char *object, size_t from, size_t to) {
  for (size_t i = from; i < to; i++) FUZZ_REQUIRE(object[i] == 0, "byte %zu of %zu new ones is not zero", i, to);
}

static NOINLINE void check_node(const struct node *node) {
  char *object = address_of(node);
  check_contents(node, node->bytes);
  FUZZ_REQUIRE(midden_owns(object) && midden_size(object) >= node->bytes, "%zu bytes of %zu", midden_size(object),
               node->bytes);
  FUZZ_REQUIRE(midden_kind_of(object) == node->kind, "kind %d, not %d", midden_kind_of(object), node->kind);
  size_t last = node->bytes == 0 ? 0 : node->bytes - 1;
  FUZZ_REQUIRE(node->tiny || (midden_base(object) == object && midden_base(object + last) == object),
               "an object of %zu bytes is not found", node->bytes);
}

/* ---- who is reachable ---- */

static int walk_stack[NODES];
static int walk_depth;

static void reach(int index) {
  if (index == NONE || shadow.nodes[index].reached || shadow.nodes[index].freed) return;
  shadow.nodes[index].reached = true;
  walk_stack[walk_depth++] = index;
}

static void drain(void) {
  while (walk_depth > 0) {
    const struct node *node = &shadow.nodes[walk_stack[--walk_depth]];
    for (int i = 0; i < EDGES; i++) reach(node->edge[i]);
  }
}

static void forget_reached(void) {
  for (int i = 0; i < shadow.count; i++) shadow.nodes[i].reached = false;
}

/* From the roots, objects of root kinds and arguments of finalizers; `held` adds objects with finalizers. */
static void walk(bool held) {
  forget_reached();
  for (int i = 0; i < ROOTS; i++) {
    if (shadow.is_root[i]) reach(shadow.root[i]);
  }
  for (int i = 0; i < shadow.count; i++) {
    const struct node *node = &shadow.nodes[i];
    if (is_explicit(node) || (held && node->pending > 0)) reach(i);
    if (node->pending > 0) reach(node->argument);
  }
  drain();
}

static void check_reachable(void) {
  walk(false);
  for (int i = 0; i < shadow.count; i++) {
    const struct node *node = &shadow.nodes[i];
    if (!node->reached) continue;
    FUZZ_REQUIRE(!node->gone, "node %d came back", i);
    check_node(node);
    FUZZ_REQUIRE(node->weak_at == NONE || node->weak[node->weak_at] != NULL, "the weak link to node %d is cleared", i);
  }
}

/* Takes note of what the weak links tell. */
static void note_cleared_links(void) {
  walk(true);
  for (int i = 0; i < shadow.count; i++) {
    struct node *node = &shadow.nodes[i];
    if (node->weak_at == NONE || node->weak[node->weak_at] != NULL) continue;
    FUZZ_REQUIRE(!node->reached || node->weak_when == MIDDEN_WEAK_BEFORE_FINALIZERS, "node %d was reclaimed", i);
    node->weak_at = NONE;
    if (!node->reached) node->gone = true;
  }
}

static bool is_leftover(const struct node *node) {
  return node->weak_at != NONE && !node->freed && node->weak_when == MIDDEN_WEAK_AFTER_FINALIZERS;
}

/* How many stale words explain what is left although nothing reaches it. */
static void check_liveness(void) {
  static bool is_inner[NODES];
  memset(is_inner, 0, sizeof(is_inner));
  note_cleared_links();
  for (int i = 0; i < shadow.count; i++) {
    const struct node *node = &shadow.nodes[i];
    for (int k = 0; k < EDGES && !node->gone && !node->reached; k++) {
      if (node->edge[k] != NONE && node->edge[k] != i) is_inner[node->edge[k]] = true;
    }
  }
  int heads = 0;
  for (int pass = 0; pass < 2; pass++) {
    for (int i = 0; i < shadow.count; i++) {
      const struct node *node = &shadow.nodes[i];
      if (node->reached || !is_leftover(node) || (pass == 0 && is_inner[i])) continue;
      heads++;
      reach(i);
      drain();
    }
  }
  FUZZ_REQUIRE(heads <= SLACK, "%d unreachable objects are still there after two collections", heads);
}

/* ---- collecting ---- */

static NOINLINE void scrub_stack(void) {
  volatile char dead[SCRUB_BYTES];
  for (size_t i = 0; i < sizeof(dead); i++) dead[i] = 0;
}

static NOINLINE void collect_clean(void) {
  scrub_stack();
  midden_collect();
}

/* ---- nodes ---- */

static void set_root(int slot, int index) {
  shadow.root[slot] = index;
  root_words[slot] = index == NONE ? NULL : address_of(&shadow.nodes[index]);
}

static void set_edge(struct node *node, int edge, int target, size_t inside) {
  size_t offset = edge_offset(node, edge);
  if (offset == SIZE_MAX) return;
  node->edge[edge] = target;
  if (target != NONE) node->hidden_edge[edge] = ~((uintptr_t)address_of(&shadow.nodes[target]) + inside);
  uintptr_t word = stored_edge(node, edge);
  memcpy((char *)address_of(node) + offset, &word, sizeof(word));
}

/* A node for a new object, contents not yet written. */
static struct node *new_node(void *object, int kind, size_t bytes) {
  struct node *node = &shadow.nodes[shadow.count++];
  *node = (struct node){.id = next_id++, .hidden = ~(uintptr_t)object, .bytes = bytes, .kind = kind};
  node->type = node->argument = node->weak_at = NONE;
  for (int i = 0; i < EDGES; i++) node->edge[i] = NONE;
  shadow.live_bytes += bytes;
  return node;
}

static void link_weakly(struct node *node, int place, enum midden_weak_when when) {
  node->weak[place] = (void *)1;
  int error = midden_weak_link(&node->weak[place], address_of(node), when);
  FUZZ_REQUIRE(error == (node->weak_at == place && node->weak_when == when ? -EEXIST : 0), "linking: %d", error);
  node->weak_at = place;
  node->weak_when = when;
}

/* Writes the contents, watches the node and puts it into a root. */
static void adopt(struct node *node, uint8_t how) {
  fill(node);
  if (!node->tiny) link_weakly(node, 0, how & 1 ? MIDDEN_WEAK_BEFORE_FINALIZERS : MIDDEN_WEAK_AFTER_FINALIZERS);
  set_root(how % ROOTS, index_of(node));
}

/* A node that the program can reach: a root, and some references from there. */
static struct node *pick(struct fuzz_input *input) {
  uint8_t how = fuzz_byte(input);
  int index = shadow.is_root[how % ROOTS] ? shadow.root[how % ROOTS] : NONE;
  for (int steps = how / ROOTS; index != NONE && steps > 0; steps--) {
    int next = shadow.nodes[index].edge[steps % EDGES];
    if (next == NONE || shadow.nodes[next].freed) break;
    index = next;
  }
  return index == NONE ? NULL : &shadow.nodes[index];
}

/* Clears every reference to a node that is freed or has moved. */
static void detach(const struct node *dead) {
  int index = index_of(dead);
  walk(false);
  for (int i = 0; i < ROOTS; i++) {
    if (shadow.root[i] == index) set_root(i, NONE);
  }
  for (int i = 0; i < shadow.count; i++) {
    struct node *node = &shadow.nodes[i];
    for (int k = 0; k < EDGES; k++) {
      if (node->edge[k] == index && node->reached && node != dead) set_edge(node, k, NONE, 0);
    }
  }
}

/* Whether someone who cannot be told, or a queue, still refers to a node: then it must not be freed. */
static bool is_shared(const struct node *node) {
  int index = index_of(node);
  walk(false);
  for (int i = 0; i < shadow.count; i++) {
    const struct node *other = &shadow.nodes[i];
    if (other->pending > 0 && other->argument == index) return true;
    for (int k = 0; k < EDGES; k++) {
      if (other->edge[k] == index && !other->reached && !other->freed && !other->gone) return true;
    }
  }
  return false;
}

/* What the library promises of an object that was freed. */
static void note_freed(struct node *node) {
  if (node->weak_at != NONE) FUZZ_REQUIRE(node->weak[node->weak_at] == NULL, "a weak link survives midden_free");
  node->weak_at = node->argument = NONE;
  node->pending = 0;
  node->freed = true;
}

/* ---- finalizers ---- */

/* Objects that a finalizer made reachable again: some of them may be in the queue too. */
static void resurrect(struct node *node) {
  set_root(shadow.resurrect_to, index_of(node));
  shadow.resurrect_to = NONE;
  forget_reached();
  reach(index_of(node));
  drain();
  for (int i = 0; i < shadow.count; i++) {
    struct node *other = &shadow.nodes[i];
    if (!other->reached) continue;
    other->early = true;
    if (other->weak_at == NONE || other->weak[other->weak_at] != NULL) continue;
    FUZZ_REQUIRE(other->weak_when == MIDDEN_WEAK_BEFORE_FINALIZERS, "node %d was reclaimed under a finalizer", i);
    other->weak_at = NONE;
  }
}

static void on_finalize(void *object, void *argument) {
  struct node *node = NULL;
  for (int i = shadow.count - 1; i >= 0 && node == NULL; i--) {
    if (shadow.nodes[i].hidden == ~(uintptr_t)object && !shadow.nodes[i].gone) node = &shadow.nodes[i];
  }
  FUZZ_REQUIRE(node != NULL && !node->freed && node->pending > 0, "a finalizer runs for nobody (freed: %d)",
               node != NULL && node->freed);
  walk(false);
  FUZZ_REQUIRE(!node->reached || node->early, "a finalizer runs for a reachable object");
  check_contents(node, node->bytes);
  node->pending--;
  if (argument != NULL) {
    FUZZ_REQUIRE(node->argument != NONE && argument == address_of(&shadow.nodes[node->argument]), "wrong argument");
    check_node(&shadow.nodes[node->argument]);
    node->argument = NONE;
  }
  if (shadow.resurrect_to != NONE) resurrect(node);
}

static NOINLINE void op_finalizer(struct fuzz_input *input) {
  struct node *node = pick(input);
  uint8_t how = fuzz_byte(input);
  struct node *argument = how & 8 ? pick(input) : NULL;
  if (node == NULL || node->tiny) return;
  if (node->pending > 0) argument = NULL;
  midden_finalizer_fn *old = NULL;
  void *old_argument = NULL;
  int error = midden_finalizer_set(address_of(node), how & 4 ? NULL : on_finalize,
                                   argument == NULL || how & 4 ? NULL : address_of(argument),
                                   (enum midden_finalizer_order)(how & 3), &old, &old_argument);
  FUZZ_REQUIRE(error == 0 && (old == NULL || old == on_finalize), "setting a finalizer: %d", error);
  FUZZ_REQUIRE(old == NULL || node->pending > 0, "there was a finalizer already");
  FUZZ_REQUIRE(old != NULL || node->pending == 0 || node->early, "the finalizer is lost");
  if (old != NULL) node->pending--;
  if (old_argument != NULL) {
    FUZZ_REQUIRE(old_argument == address_of(&shadow.nodes[node->argument]), "wrong old argument");
    node->argument = NONE;
  }
  if (how & 4) return;
  node->pending++;
  if (argument != NULL) node->argument = index_of(argument);
}

static NOINLINE void op_run_finalizers(struct fuzz_input *input) {
  uint8_t how = fuzz_byte(input);
  int slot = (how >> 1) % ROOTS;
  note_cleared_links();
  shadow.resurrect_to = how & 1 && shadow.is_root[slot] ? slot : NONE;
  size_t max = how & 0x80 ? SIZE_MAX : 1;
  size_t count = midden_finalizers_run(max);
  FUZZ_REQUIRE(count <= max && (max == 1 || !midden_finalizers_ready()), "%zu finalizers ran", count);
  shadow.resurrect_to = NONE;
}

static void make_all_ready(void) {
  for (int i = 0; i < shadow.count; i++) {
    if (shadow.nodes[i].pending > 0) shadow.nodes[i].early = true;
  }
  midden_finalizers_ready_all();
}

/* ---- allocation ---- */

static bool may_fail(size_t bytes) { return shadow.is_limited || bytes > LIVE_LIMIT; }

static int choose_kind(uint8_t how) {
  const int kinds[] = {MIDDEN_CONSERVATIVE, MIDDEN_DATA, MIDDEN_RAW,          MIDDEN_ROOT,
                       MIDDEN_ROOT_DATA,    custom_kind, MIDDEN_CONSERVATIVE, custom_kind};
  return kinds[how % 8];
}

static NOINLINE void note_new(void *object, int kind, size_t bytes, uint8_t how, bool tiny) {
  if (object == NULL) {
    FUZZ_REQUIRE(may_fail(bytes), "no memory for %zu bytes", bytes);
    return;
  }
  FUZZ_REQUIRE((uintptr_t)object % (tiny ? 8 : 16) == 0, "%p is not aligned", object);
  if (is_zeroed(kind)) check_zero(object, 0, bytes);
  struct node *node = new_node(object, kind, bytes);
  node->tiny = tiny;
  adopt(node, how);
}

static NOINLINE void op_alloc(struct fuzz_input *input) {
  uint8_t how = fuzz_byte(input), where = fuzz_byte(input);
  size_t bytes = fuzz_size(input, how & 0x80 ? SIZE_BITS : 11);
  int kind = choose_kind(how);
  switch (how >> 3 & 3) {
    case 0:
      note_new(midden_alloc(bytes), MIDDEN_CONSERVATIVE, bytes, where, false);
      break;
    case 1:
      note_new(midden_alloc_data(bytes), MIDDEN_DATA, bytes, where, bytes <= 8);
      break;
    default:
      note_new(midden_alloc_kind((midden_kind)kind, bytes), kind, bytes, where, false);
  }
}

static NOINLINE void op_alloc_aligned(struct fuzz_input *input) {
  uint8_t how = fuzz_byte(input), where = fuzz_byte(input);
  size_t bytes = fuzz_size(input, 16), alignment = (size_t)1 << (how >> 3) % 18;
  int kind = choose_kind(how);
  if (how == 255) {
    FUZZ_REQUIRE(midden_alloc_aligned((midden_kind)kind, alignment + 2 + (alignment == 2), bytes) == NULL, "odd");
    return;
  }
  char *object = midden_alloc_aligned((midden_kind)kind, alignment, bytes);
  FUZZ_REQUIRE((uintptr_t)object % alignment == 0, "%p is not aligned to %zu", (void *)object, alignment);
  note_new(object, kind, bytes, where, false);
}

static NOINLINE void op_alloc_typed(struct fuzz_input *input) {
  uint8_t how = fuzz_byte(input), where = fuzz_byte(input);
  int type = how % TYPES;
  size_t count = how & 4 ? fuzz_size(input, how & 8 ? 9 : 4) : 1;
  void *object = how & 4 ? midden_alloc_array(&types[type], count) : midden_alloc_type(&types[type]);
  if (how == 255) FUZZ_REQUIRE(midden_alloc_array(&types[type], SIZE_MAX / 2) == NULL, "an endless array");
  if (object == NULL) {
    FUZZ_REQUIRE(may_fail(count * types[type].size), "no memory for %zu elements", count);
    return;
  }
  check_zero(object, 0, count * types[type].size);
  struct node *node = new_node(object, MIDDEN_TYPED, count * types[type].size);
  node->type = type;
  node->count = count;
  adopt(node, where);
}

/* The first few of the list become nodes; the others are garbage, or leaks of a root kind if they were not freed. */
static NOINLINE void op_alloc_many(struct fuzz_input *input) {
  enum { KEPT = 4 };
  uint8_t how = fuzz_byte(input), where = fuzz_byte(input);
  size_t bytes = fuzz_size(input, 12), seen = 0;
  int kind = choose_kind(how);
  if (kind == custom_kind || shadow.count + KEPT > NODES) return; /* its trace function knows no plain links */
  void *list;
  size_t count = midden_alloc_many((midden_kind)kind, bytes, &list);
  void **next = list;
  FUZZ_REQUIRE((next == NULL) == (count == 0) && (next != NULL || may_fail(bytes)), "%zu objects", count);
  void *kept[KEPT];
  for (void **object = next; object != NULL; object = next, seen++) {
    next = *object;
    *object = NULL;
    if (seen < KEPT) {
      kept[seen] = object;
    } else if (kind == MIDDEN_ROOT || kind == MIDDEN_ROOT_DATA) {
      midden_free(object);
    }
  }
  FUZZ_REQUIRE(seen == count, "%zu objects, not %zu", seen, count);
  for (size_t i = 0; i < seen && i < KEPT; i++) note_new(kept[i], kind, bytes, (uint8_t)(where + i), false);
}

/* The node as it was, for an object that has moved. */
static void note_moved(struct node *node, void *object, size_t bytes, bool tiny) {
  struct node old = *node;
  detach(node);
  note_freed(node);
  struct node *moved = new_node(object, old.kind, bytes);
  moved->tiny = tiny;
  for (int i = 0; i < EDGES; i++) {
    if (edge_offset(moved, i) == SIZE_MAX || old.edge[i] == NONE || shadow.nodes[old.edge[i]].freed) continue;
    moved->edge[i] = old.edge[i];
    moved->hidden_edge[i] = old.hidden_edge[i];
  }
  adopt(moved, (uint8_t)(old.id & 0xfe));
}

static NOINLINE void op_realloc(struct fuzz_input *input) {
  struct node *node = pick(input);
  uint8_t how = fuzz_byte(input);
  size_t bytes = 1 + fuzz_size(input, how & 1 ? SIZE_BITS - 1 : 11);
  if (node == NULL || node->type != NONE || is_shared(node)) return;
  size_t kept = bytes < node->bytes ? bytes : node->bytes;
  char *old = address_of(node);
  char *object = midden_realloc(old, bytes);
  if (object == NULL) {
    FUZZ_REQUIRE(may_fail(bytes), "no memory for %zu bytes", bytes);
    return;
  }
  struct node copy = *node;
  copy.hidden = ~(uintptr_t)object;
  check_contents(&copy, kept);
  if (is_zeroed(node->kind)) check_zero(object, kept, bytes);
  if (object != old) {
    note_moved(node, object, bytes, false);
    return;
  }
  node->bytes = bytes;
  for (int i = 0; i < EDGES; i++) {
    if (edge_offset(node, i) == SIZE_MAX) node->edge[i] = NONE;
  }
  fill(node);
}

static NOINLINE void op_free(struct fuzz_input *input) {
  struct node *node = pick(input);
  if (node == NULL || is_shared(node)) return;
  detach(node);
  check_node(node);
  midden_free(address_of(node));
  note_freed(node);
}

/* ---- references, roots, weak links ---- */

static NOINLINE void op_link(struct fuzz_input *input) {
  struct node *from = pick(input), *to = pick(input);
  uint8_t how = fuzz_byte(input);
  if (from == NULL) return;
  size_t inside = to != NULL && to->bytes > 0 && how & 0x10 ? fuzz_size(input, SIZE_BITS) % to->bytes : 0;
  set_edge(from, how % EDGES, to == NULL || how & 0x80 ? NONE : index_of(to), inside);
}

static void op_drop(struct fuzz_input *input) { set_root(fuzz_byte(input) % ROOTS, NONE); }

/* Words that are no roots are cleared before they become some again. */
static void op_roots(struct fuzz_input *input) {
  size_t from = fuzz_byte(input) % ROOTS, count = fuzz_byte(input) % 8;
  bool add = fuzz_byte(input) & 1;
  if (from + count > ROOTS) count = ROOTS - from;
  for (size_t i = from; i < from + count; i++) {
    if (!shadow.is_root[i]) set_root((int)i, NONE);
    shadow.is_root[i] = add;
  }
  if (add) {
    FUZZ_REQUIRE(midden_root_add(root_words + from, root_words + from + count) == 0, "adding a root");
  } else {
    midden_root_remove(root_words + from, root_words + from + count);
  }
  FUZZ_REQUIRE(midden_root_add(root_words + 1, root_words) == -EINVAL, "a range that ends before it starts");
}

static NOINLINE void op_weak(struct fuzz_input *input) {
  struct node *node = pick(input);
  uint8_t how = fuzz_byte(input);
  if (node == NULL || node->tiny) return;
  enum midden_weak_when when = node->weak_when;
  int place = node->weak_at == NONE ? 0 : node->weak_at;
  void **link = &node->weak[place], **other = &node->weak[!place];
  int missing = node->weak_at == NONE ? -ENOENT : 0;
  switch (how % 4) {
    case 0:
      FUZZ_REQUIRE(midden_weak_unlink(link, when) == missing, "unlinking");
      node->weak_at = NONE;
      break;
    case 1:
      *other = (void *)1;
      FUZZ_REQUIRE(midden_weak_move(link, other, when) == missing, "moving a link");
      if (missing == 0) node->weak_at = !place;
      break;
    case 2:
      FUZZ_REQUIRE(midden_weak_unlink(link, !when) == -ENOENT, "the other set has it too");
      FUZZ_REQUIRE(midden_weak_link((void **)((char *)link + 4), address_of(node), when) == -EINVAL, "unaligned");
      break;
    default:
      if (missing == 0) FUZZ_REQUIRE(midden_weak_unlink(link, when) == 0, "unlinking");
      node->weak_at = NONE;
      link_weakly(node, how >> 3 & 1, how & 4 ? MIDDEN_WEAK_BEFORE_FINALIZERS : MIDDEN_WEAK_AFTER_FINALIZERS);
  }
}

/* ---- questions ---- */

static void ask(uintptr_t address) {
  char *base = midden_base((void *)address);
  size_t bytes = midden_size((void *)address);
  bool owns = midden_owns((void *)address);
  int kind = midden_kind_of((void *)address);
  FUZZ_REQUIRE(owns == (base != NULL) && owns == (bytes != 0) && owns == (kind >= 0), "answers about %p differ",
               (void *)address);
  FUZZ_REQUIRE(!owns || kind == MIDDEN_TYPED || address - (uintptr_t)base < bytes || kind < MIDDEN_KINDS_MAX,
               "%p is not in its object", (void *)address);
  FUZZ_REQUIRE(base == NULL || midden_base(base) == base, "the base of %p has another base", (void *)address);
}

static NOINLINE void op_ask(struct fuzz_input *input) {
  uintptr_t start, end, number = fuzz_number(input, 8);
  midden_heap_bounds(&start, &end);
  ask(number);
  ask(start + number % (end - start));
  ask(start);
  ask(end);
  ask(end - 1);
  ask((uintptr_t)&input);
  FUZZ_REQUIRE(!midden_owns((void *)start) && !midden_owns((void *)end) && !midden_owns(&number), "foreign");
  FUZZ_REQUIRE(midden_weak_link(&root_words[0], &number, MIDDEN_WEAK_AFTER_FINALIZERS) == -EINVAL, "a foreign target");
  FUZZ_REQUIRE(midden_finalizer_set(&number, on_finalize, NULL, 0, NULL, NULL) == -EINVAL, "a foreign object");
  const struct node *node = pick(input);
  if (node == NULL || node->bytes == 0) return;
  char *object = address_of(node), *inside = object + number % node->bytes;
  ask((uintptr_t)inside);
  FUZZ_REQUIRE(midden_owns(inside) && (node->tiny || midden_base(inside) == object), "an interior pointer is lost");
}

/* ---- collections and settings ---- */

static bool refuse(void *argument) { return *(bool *)argument; }

static void op_collect(struct fuzz_input *input) {
  uint8_t how = fuzz_byte(input);
  bool stop = how & 1;
  if (how & 2) {
    bool ran = midden_collect_unless(refuse, &stop);
    FUZZ_REQUIRE(!stop || !ran || shadow.disabled > 0, "a collection ran that was given up");
  } else {
    collect_clean();
  }
  note_cleared_links();
}

static void op_check(struct fuzz_input *input) {
  uint8_t how = fuzz_byte(input);
  midden_verify();
  check_reachable();
  if (how % 4 != 0 || shadow.disabled > 0) return;
  collect_clean();
  collect_clean();
  check_liveness();
  check_reachable();
}

static void op_disable(struct fuzz_input *input) {
  if (fuzz_byte(input) & 1 && shadow.disabled < 3) {
    midden_disable();
    shadow.disabled++;
  } else if (shadow.disabled > 0) {
    midden_enable();
    shadow.disabled--;
  }
  FUZZ_REQUIRE(midden_is_disabled() == (shadow.disabled > 0), "disabled %u times", shadow.disabled);
}

static void op_settings(struct fuzz_input *input) {
  uint8_t how = fuzz_byte(input);
  struct midden_stats stats = {.size = sizeof(stats)};
  switch (how % 8) {
    case 0:
      midden_release_memory();
      break;
    case 1:
      midden_set_percent((int)fuzz_size(input, 10) - 1);
      break;
    case 2:
      midden_set_memory_limit(fuzz_size(input, 26));
      break;
    case 3:
      midden_set_markers(1 + fuzz_byte(input) % 3);
      break;
    case 4:
      FUZZ_REQUIRE(midden_reserve(fuzz_size(input, 21)) == 0 || shadow.is_limited, "reserving");
      break;
    case 5:
      shadow.is_limited = how & 8;
      midden_set_max_heap(shadow.is_limited ? fuzz_size(input, 24) : 0);
      break;
    case 6:
      make_all_ready();
      break;
    default:
      midden_stats(&stats);
      FUZZ_REQUIRE(stats.heap_in_use + stats.heap_idle + stats.stacks == stats.heap_system &&
                       stats.heap_released <= stats.heap_idle && stats.threads >= 1,
                   "the figures do not add up");
  }
}

/* ---- one input ---- */

typedef void operation(struct fuzz_input *input);

static operation *const operations[] = {
    op_alloc, op_alloc, op_alloc_aligned, op_alloc_typed, op_alloc_many, op_link,      op_link,
    op_link,  op_drop,  op_realloc,       op_free,        op_finalizer,  op_finalizer, op_run_finalizers,
    op_weak,  op_roots, op_ask,           op_collect,     op_check,      op_disable,   op_settings};

static void start_once(void) {
  if (root_words != NULL) return;
  struct midden_options options = {
      .size = sizeof(options), .ignore_modules = true, .markers = 1, .debug = MIDDEN_DEBUG_POISON};
  FUZZ_REQUIRE(midden_init(&options) == 0, "no heap");
  root_words = calloc(ROOTS, sizeof(*root_words));
  FUZZ_REQUIRE(root_words != NULL, "no memory");
  make_types();
  struct midden_kind_options kind = {.size = sizeof(kind), .name = "disguised", .trace = trace_custom};
  custom_kind = midden_kind_new(&kind);
  FUZZ_REQUIRE(custom_kind >= MIDDEN_KINDS_BUILT_IN, "no kind");
}

static void start(void) {
  start_once();
  shadow.count = 0;
  shadow.live_bytes = 0;
  shadow.resurrect_to = NONE;
  for (int i = 0; i < ROOTS; i++) {
    set_root(i, NONE);
    shadow.is_root[i] = true;
  }
  FUZZ_REQUIRE(midden_root_add(root_words, root_words + ROOTS) == 0, "no roots");
}

static void restore_settings(void) {
  for (; shadow.disabled > 0; shadow.disabled--) midden_enable();
  midden_set_percent(100);
  midden_set_memory_limit(0);
  midden_set_max_heap(0);
  midden_set_markers(1);
  shadow.is_limited = false;
}

static void finish(void) {
  restore_settings();
  check_reachable();
  collect_clean();
  note_cleared_links();
  midden_finalizers_run(SIZE_MAX);
  make_all_ready();
  midden_finalizers_run(SIZE_MAX);
  for (int i = 0; i < shadow.count; i++) {
    struct node *node = &shadow.nodes[i];
    FUZZ_REQUIRE(node->pending == 0, "%u finalizers of node %d never ran", node->pending, i);
    if (!is_explicit(node) || node->freed) continue;
    check_contents(node, node->bytes);
    midden_free(address_of(node));
    note_freed(node);
  }
  for (int i = 0; i < ROOTS; i++) set_root(i, NONE);
  midden_root_clear();
  collect_clean();
  collect_clean();
  check_liveness();
  midden_verify();
  for (int i = 0; i < shadow.count; i++) {
    struct node *node = &shadow.nodes[i];
    if (node->weak_at != NONE)
      FUZZ_REQUIRE(midden_weak_unlink(&node->weak[node->weak_at], node->weak_when) == 0, "lost");
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  struct fuzz_input input = {data, data + bytes};
  start();
  while (!fuzz_is_empty(&input) && shadow.count < NODES - 8 && shadow.live_bytes < LIVE_LIMIT)
    operations[fuzz_byte(&input) % (sizeof(operations) / sizeof(operations[0]))](&input);
  finish();
  return 0;
}

#include "observe/check.h"

#include <string.h>

#include "alloc/cache.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "base/text.h"
#include "gc/calls.h"
#include "gc/cell.h"
#include "gc/cleanup.h"
#include "gc/cycle.h"
#include "gc/mark.h"
#include "gc/named_free.h"
#include "gc/rootset.h"
#include "gc/settle.h"
#include "gc/special.h"
#include "os/os.h"
#include "span/guard.h"
#include "span/kind.h"
#include "span/object.h"
#include "span/page_info.h"
#include "span/sticky.h"

enum { GREY_LEAST = 1 << 16, WORD_BITS = 64 };

/* From where an object is referred to, in one word: an address, which is a multiple of 8, with one of these. */
enum {
  FROM_OBJECT,    /* the object's first byte */
  FROM_ROOT,      /* the word in a range of roots */
  FROM_ITSELF,    /* it is of a root kind */
  FROM_CALLBACK,  /* the program's root callback; no address */
  FROM_QUEUE,     /* finalizers and cleanups that are due; no address */
  FROM_FINALIZER, /* the argument of a finalizer; no address */
  FROM_CLEANUP,   /* the argument of a cleanup: the first byte of its object */
  FROM_KINDS_MASK = 7
};

size_t check_suspects;

static NOT_A_ROOT struct {
  struct midden_tracer tracer; /* reports to visit_word */
  uintptr_t from;              /* what is being read */
  size_t heap_bytes;           /* of the arena, as far as it is used */
  size_t granules;             /* of the heap, for which there are tables */
  uint64_t *reached;           /* by granule, a bit */
  uintptr_t *from_where;       /* by granule; of objects that were reached */
  uintptr_t *grey;             /* reached and not yet read: a stack */
  size_t grey_count, grey_capacity;
  bool out_of_memory;
  bool minor;              /* the mark took old objects for alive */
  struct os_range visited; /* the words of a heap object of which one is being visited; or empty */
} walk;

/* What words of objects with pointers were at the last check, as hashes; 0: nothing is known. */
static NOT_A_ROOT struct {
  uint32_t *hashes;
  size_t count, capacity;
} seen;

static _Noreturn void report_missed(uintptr_t object, uintptr_t word);

/* ---- tables ---- */

static size_t granule_of(uintptr_t object) { return (object - heap_arena.start) >> GRANULE_SHIFT; }

static bool is_reached(uintptr_t object) {
  size_t granule = granule_of(object);
  return (walk.reached[granule / WORD_BITS] >> granule % WORD_BITS & 1) != 0;
}

static void set_reached(uintptr_t object) {
  size_t granule = granule_of(object);
  walk.reached[granule / WORD_BITS] |= UINT64_C(1) << granule % WORD_BITS;
}

static void drop_tables(void) {
  if (walk.reached != NULL) os_unmap(walk.reached, walk.granules / 8);
  if (walk.from_where != NULL) os_unmap(walk.from_where, walk.granules * sizeof(uintptr_t));
  walk.reached = NULL;
  walk.from_where = NULL;
  walk.granules = 0;
}

/* Tables for all of the heap as it is now, nothing reached. */
static bool prepare_tables(void) {
  walk.heap_bytes = heap_arena.used - heap_arena.start;
  size_t granules = walk.heap_bytes >> GRANULE_SHIFT;
  if (granules <= walk.granules) {
    if (granules != 0) memset(walk.reached, 0, granules / 8);
    return true;
  }
  drop_tables();
  walk.granules = 2 * granules;
  walk.reached = os_map(walk.granules / 8);
  walk.from_where = os_map(walk.granules * sizeof(uintptr_t));
  if (walk.reached != NULL && walk.from_where != NULL) return true;
  drop_tables();
  return false;
}

static bool grow_grey(void) {
  size_t capacity = max_size(2 * walk.grey_capacity, GREY_LEAST);
  uintptr_t *grey = os_map(capacity * sizeof *grey);
  if (grey == NULL) return false;
  if (walk.grey != NULL) {
    memcpy(grey, walk.grey, walk.grey_count * sizeof *grey);
    os_unmap(walk.grey, walk.grey_capacity * sizeof *grey);
  }
  walk.grey = grey;
  walk.grey_capacity = capacity;
  return true;
}

/* Reached from nowhere, and never read: what waits in the windows, and large objects of which the old contents are being
 * cleared, are not yet objects. */
static void leave_out_window(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class,
                             void *argument) {
  (void)cache, (void)kind, (void)argument;
  for (const char *slot = bin->next; slot < bin->limit; slot += size_class_bytes[size_class])
    set_reached((uintptr_t)slot);
}

static void leave_out_fresh(void) {
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    struct cache *cache = &mutator_from(link)->cache;
    if (cache->clearing != 0) set_reached(cache->clearing);
    cache_each_bin(cache, leave_out_window, NULL);
  }
}

/* ---- words as they were ---- */

static NO_SANITIZE uintptr_t word_at(uintptr_t address) { return *(const volatile uintptr_t *)address; }

static uint32_t hash_word(size_t word) {
  return (uint32_t)(word_at(heap_arena.start + word * sizeof(uintptr_t)) * UINT64_C(0x9e3779b97f4a7c15) >> 32) | 1;
}

static bool make_room_for_hashes(size_t count) {
  if (count <= seen.capacity) return true;
  if (seen.hashes != NULL) os_unmap(seen.hashes, seen.capacity * sizeof *seen.hashes);
  seen.capacity = 2 * count;
  seen.hashes = os_map(seen.capacity * sizeof *seen.hashes);
  if (seen.hashes == NULL) seen.capacity = 0;
  return seen.hashes != NULL;
}

static bool has_pointers(size_t page) {
  uint16_t info = heap_arena.page_info[page];
  return info != 0 && page_info_scan(info) != SCAN_NONE;
}

static void remember_words(void) {
  enum { PAGE_WORDS = PAGE_BYTES / sizeof(uintptr_t) };
  size_t count = walk.heap_bytes / sizeof(uintptr_t);
  seen.count = 0;
  if (!sticky_marks || !make_room_for_hashes(count)) return;
  for (size_t page = 0; page < count / PAGE_WORDS; page++) {
    bool is_told = has_pointers(page);
    for (size_t i = page * PAGE_WORDS; i < (page + 1) * PAGE_WORDS; i++) seen.hashes[i] = is_told ? hash_word(i) : 0;
  }
  seen.count = count;
}

/* Whether words are older than the last cycle by all that is known. */
static bool are_unchanged(struct os_range words) {
  size_t first = (words.start - heap_arena.start) / sizeof(uintptr_t);
  size_t end = (words.end - heap_arena.start) / sizeof(uintptr_t);
  if (words.start == words.end || end > seen.count) return false;
  for (size_t i = first; i < end; i++) {
    if (hash_word(i) != seen.hashes[i]) return false;
  }
  return true;
}

/* ---- from a word to an object ---- */

static bool is_marked(uintptr_t object) { return mark_bit_get(&heap_arena, mark_side(), object); }

static void enter(const struct object *object) {
  set_reached(object->start);
  walk.from_where[granule_of(object->start)] = walk.from;
  bool has_more = kind_table[object->span->kind].scan != SCAN_NONE || object->span->specials != NULL;
  if (!has_more) return;
  if (walk.grey_count == walk.grey_capacity && !grow_grey()) {
    walk.out_of_memory = true;
    return;
  }
  walk.grey[walk.grey_count++] = object->start;
}

static void visit_exact(uintptr_t word) {
  struct object object;
  if (!object_find((const void *)word, &object) || is_reached(object.start)) return;
  if (!is_marked(object.start)) {
    if (walk.minor && are_unchanged(walk.visited)) return;
    if (named_free_has(object.start) || named_free_has(word)) return;
    report_missed(object.start, word);
  }
  enter(&object);
}

static void enter_if_marked(uintptr_t word, bool *is_suspect) {
  struct object object;
  if (!object_find((const void *)word, &object) || is_reached(object.start)) return;
  *is_suspect = !is_marked(object.start);
  if (!*is_suspect) enter(&object);
}

/* A word one past the end of an object may refer to it, where the marker thinks so (mark.c): then it is marked. */
static void visit_stack_word(uintptr_t word) {
  bool is_suspect = false;
  enter_if_marked(word, &is_suspect);
  if (is_suspect) atomic_add_relaxed(&check_suspects, (size_t)1);
  if (word % GRANULE_BYTES == 0) enter_if_marked(word - 1, &is_suspect);
}

static void visit_word(struct midden_tracer *tracer, uintptr_t word, bool is_stack) {
  (void)tracer;
  if (word - heap_arena.start > walk.heap_bytes) return;
  if (memcheck_on_valgrind) word = memcheck_launder(word);
  if (is_stack) {
    visit_stack_word(word);
  } else {
    visit_exact(word);
  }
}

/* ---- from an object to its words ---- */

static const struct midden_type *type_of(const struct span *span, uintptr_t object, size_t *count) {
  uintptr_t trailer = object + span_slot_bytes(span);
  uintptr_t tagged = word_at(trailer - sizeof(uintptr_t));
  *count = (tagged & TYPE_ARRAY_TAG) != 0 ? word_at(trailer - 2 * sizeof(uintptr_t)) : 1;
  return (const struct midden_type *)(tagged & ~(uintptr_t)TYPE_ARRAY_TAG);
}

static void visit_heap_word(uintptr_t address) {
  walk.visited = (struct os_range){address, address + sizeof(uintptr_t)};
  visit_word(&walk.tracer, word_at(address), false);
  walk.visited = (struct os_range){0};
}

static void read_element(uintptr_t element, const struct midden_type *type) {
  if (type->trace != NULL) {
    type->trace((void *)element, type->size, &walk.tracer, type->argument);
    return;
  }
  for (size_t i = 0; type->pointers != NULL && i < type->size / sizeof(uintptr_t); i++) {
    if ((type->pointers[i / WORD_BITS] >> i % WORD_BITS & 1) != 0) visit_heap_word(element + i * sizeof(uintptr_t));
  }
}

static void read_typed(const struct span *span, uintptr_t object) {
  size_t count;
  const struct midden_type *type = type_of(span, object, &count);
  if (type == NULL || type->size == 0) return; /* handed out, and its type not yet written */
  for (size_t i = 0; i < count; i++) read_element(object + i * type->size, type);
}

static void visit_value(const struct cell *cell) {
  walk.visited = (struct os_range){(uintptr_t)&cell->value, (uintptr_t)(&cell->value + 1)};
  visit_exact((uintptr_t)cell->value);
  walk.visited = (struct os_range){0};
}

static void read_ephemeron(const struct cell *cell) {
  struct object key;
  uintptr_t target = atomic_load_relaxed(&cell->target);
  if (target != 0 && object_find((const void *)target, &key) && is_reached(key.start)) visit_value(cell);
}

/* The collecting thread may run on an object, a coroutine's stack.  Below its stack pointer are the collector's own frames. */
static void read_words(uintptr_t start, uintptr_t end) {
  uintptr_t stack_pointer = round_down(mutator_self()->stack_pointer, sizeof(uintptr_t));
  if (start < stack_pointer && stack_pointer < end) start = stack_pointer;
  for (uintptr_t word = start; word < end; word += sizeof(uintptr_t)) visit_heap_word(word);
}

/* Which word it is that a trace function reports is not known. */
static void call_trace(const struct span *span, uintptr_t object) {
  const struct kind *kind = &kind_table[span->kind];
  size_t bytes = guard_active ? guard_size_sound(span, object) : span_slot_bytes(span);
  if (kind->trace_beside) walk.visited = (struct os_range){object, object + span_slot_bytes(span)};
  kind->trace((void *)object, bytes, &walk.tracer, kind->argument);
  walk.visited = (struct os_range){0};
}

static void read_contents(const struct span *span, uintptr_t object) {
  const struct kind *kind = &kind_table[span->kind];
  size_t slot_bytes = span_slot_bytes(span);
  switch (kind->scan) {
    case SCAN_NONE:
      return;
    case SCAN_CONSERVATIVE:
      read_words(object, object + slot_bytes);
      return;
    case SCAN_TYPED:
      read_typed(span, object);
      return;
    case SCAN_TRACE:
      if (span->kind == KIND_EPHEMERON) {
        read_ephemeron((const struct cell *)object);
      } else {
        call_trace(span, object);
      }
  }
}

/* The key is reached: so is the value of an ephemeron that was reached before.  Else the ephemeron will see the key. */
static void key_reached(void *argument, const struct cell *cell) {
  (void)argument;
  if (!is_reached((uintptr_t)cell)) return;
  walk.from = (uintptr_t)cell | FROM_OBJECT;
  visit_value(cell);
}

static void read_specials(const struct span *span, uintptr_t object) {
  const struct special *ephemerons = special_find_locked(span, object, SPECIAL_EPHEMERON);
  if (ephemerons != NULL) cell_visit_stw(ephemerons, key_reached, NULL);
  struct special *cleanups = special_find_locked(span, object, SPECIAL_CLEANUP);
  walk.from = object | FROM_CLEANUP;
  if (cleanups != NULL) cleanup_mark_arguments(&walk.tracer, cleanups);
}

static void read_grey(void) {
  while (walk.grey_count != 0) {
    uintptr_t object = walk.grey[--walk.grey_count];
    const struct span *span = object_span(object);
    walk.from = object | FROM_OBJECT;
    read_contents(span, object);
    if (span->specials != NULL) read_specials(span, object);
  }
}

/* ---- roots ---- */

static void read_root(void *argument, const struct root *root) {
  (void)argument;
  uintptr_t end = round_down(root->range.end, sizeof(uintptr_t));
  for (uintptr_t word = round_up(root->range.start, sizeof(uintptr_t)); word < end; word += sizeof(uintptr_t)) {
    walk.from = word | FROM_ROOT;
    visit_word(&walk.tracer, word_at(word), root_is_stack(root));
  }
}

static void read_root_objects_of(const struct span *span) {
  FOR_EACH_BIT (object, alloc_side(), span->start, span_end(span)) {
    walk.from = object | FROM_ITSELF;
    visit_exact(object);
  }
}

/* By the pages and not by the central lists: a thread may hold spans. */
static void read_root_objects(void) {
  uintptr_t at = heap_arena.start;
  for (const struct span *span; (span = arena_next_in_use_stw(&heap_arena, &at)) != NULL;) {
    if (kind_table[span->kind].root) read_root_objects_of(span);
  }
}

static void read_roots(void) {
  rootset_visit_stw(read_root, NULL);
  read_root_objects();
  walk.from = FROM_CALLBACK;
  cycle_report_program_roots(&walk.tracer);
  walk.from = FROM_QUEUE;
  settle_mark_queue_stw(&walk.tracer);
  walk.from = FROM_FINALIZER;
  settle_begin();
  settle_mark_share_stw(&walk.tracer);
}

void check_marks_stw(bool minor) {
  static bool has_warned;
  walk.minor = minor;
  walk.out_of_memory = !prepare_tables();
  if (!walk.out_of_memory) {
    walk.tracer = (struct midden_tracer){.visit = visit_word};
    walk.grey_count = 0;
    leave_out_fresh();
    read_roots();
    read_grey();
    remember_words();
  }
  if (!walk.out_of_memory || has_warned) return;
  has_warned = true;
  warn("check: there is no memory for it, objects that were missed may not be found");
}

/* ---- the message ---- */

static void add_object(struct text *text, uintptr_t object) {
  const struct span *span = object_span(object);
  size_t count;
  const struct midden_type *type = span->kind == MIDDEN_TYPED ? type_of(span, object, &count) : NULL;
  text_add(text, "object %p (kind %s", (void *)object, kind_table[span->kind].name);
  if (type != NULL) text_add(text, ", type %s", type->name != NULL ? type->name : "unnamed");
  text_add(text, ", %zu bytes)", span_slot_bytes(span));
}

/* The first word of an object that refers to another one; SIZE_MAX where a trace function found it by itself. */
static size_t word_that_refers(uintptr_t holder, uintptr_t object) {
  size_t words = span_slot_bytes(object_span(holder)) / sizeof(uintptr_t);
  for (size_t i = 0; i < words; i++) {
    struct object named;
    uintptr_t word = word_at(holder + i * sizeof(uintptr_t));
    if (object_find((const void *)word, &named) && named.start == object) return i;
  }
  return SIZE_MAX;
}

struct search {
  uintptr_t word;
  struct root found;
};

static void match_root(void *argument, const struct root *root) {
  struct search *search = argument;
  if (search->word - root->range.start < root->range.end - root->range.start) search->found = *root;
}

static void add_root(struct text *text, uintptr_t word) {
  struct search search = {.word = word};
  rootset_visit_stw(match_root, &search);
  uint32_t number = search.found.number;
  switch (search.found.origin) {
    case ROOT_STATIC:
      text_add(text, "the static data at %p", (void *)word);
      break;
    case ROOT_ADDED:
      text_add(text, "the added root at %p", (void *)word);
      break;
    case ROOT_STACK:
      text_add(text, number != 0 ? "the stack of thread %u" : "a registered stack", number);
      text_add(text, " at %p", (void *)word);
      break;
    case ROOT_STORAGE:
      text_add(text, "the thread-local storage of thread %u at %p", number, (void *)word);
      break;
    case ROOT_THREAD:
      text_add(text, "the fiber or the tiny objects of thread %u", number);
      break;
    case ROOT_KIND:
      text_add(text, "the argument of kind %s", kind_table[number].name);
      break;
  }
}

/* Where a reference to `object` stands. */
static void add_place(struct text *text, uintptr_t from, uintptr_t object,
                      void (*add_holder)(struct text *, uintptr_t)) {
  uintptr_t address = from & ~(uintptr_t)FROM_KINDS_MASK;
  size_t word;
  switch (from & FROM_KINDS_MASK) {
    case FROM_OBJECT:
      word = word_that_refers(address, object);
      if (word != SIZE_MAX) {
        text_add(text, "word %zu of ", word);
      } else {
        text_add(text, "the trace function of ");
      }
      add_holder(text, address);
      break;
    case FROM_CLEANUP:
      text_add(text, "the argument of a cleanup of ");
      add_holder(text, address);
      break;
    case FROM_ROOT:
      add_root(text, address);
      break;
    case FROM_ITSELF:
      text_add(text, "the root objects");
      break;
    case FROM_CALLBACK:
      text_add(text, "the root callback");
      break;
    case FROM_QUEUE:
      text_add(text, "the queue of finalizers and cleanups");
      break;
    default:
      text_add(text, "the argument of a finalizer");
      break;
  }
}

/* ---- the path ---- */

static bool is_held(uintptr_t from) {
  unsigned kind = from & FROM_KINDS_MASK;
  return kind == FROM_OBJECT || kind == FROM_CLEANUP;
}

static uintptr_t holder_of(uintptr_t from) { return from & ~(uintptr_t)FROM_KINDS_MASK; }

static uintptr_t from_where(uintptr_t object) { return walk.from_where[granule_of(object)]; }

/* The object that is `steps` before the one that `from` leads to. */
static uintptr_t step_back(uintptr_t object, size_t steps) {
  while (steps-- != 0) object = holder_of(from_where(object));
  return object;
}

static void add_short(struct text *text, uintptr_t object) { text_add(text, "%p", (void *)object); }

/* From the root to `last`, an object that was reached; the middle of a long path is left out. */
static void add_path(struct text *text, uintptr_t last) {
  enum { SHOWN = 3 };
  size_t steps = 0;
  for (uintptr_t object = last; is_held(from_where(object)); object = holder_of(from_where(object))) steps++;
  for (size_t i = steps + 1; i-- != 0;) {
    if (steps >= 2 * SHOWN && i == steps - SHOWN) {
      text_add(text, "%zu more, ", steps + 1 - 2 * SHOWN);
      i = SHOWN - 1;
    }
    uintptr_t object = step_back(last, i);
    add_place(text, from_where(object), object, add_short);
    text_add(text, " -> ");
  }
  add_short(text, last);
}

static _Noreturn void report_missed(uintptr_t object, uintptr_t word) {
  struct text missed = {.length = 0}, place = {.length = 0}, path = {.length = 0};
  const struct span *span = object_span(object);
  add_object(&missed, object);
  add_place(&place, walk.from, object, add_object);
  if (is_held(walk.from)) {
    text_add(&place, ", which is marked");
    text_add(&path, "; path: ");
    add_path(&path, holder_of(walk.from));
  }
  fatal(
      "check: the mark missed %s, size class %u, span %p; %p is referred to by %s%s. In barrier mode: was the word "
      "stored without midden_store?",
      missed.line, span->size_class, (void *)span->start, (void *)word, place.line, path.line);
}

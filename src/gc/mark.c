#include "gc/mark.h"

#include <string.h>

#include "alloc/central.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "gc/named_free.h"
#include "gc/settle.h"
#include "span/cards.h"
#include "span/guard.h"
#include "span/kind.h"
#include "span/mark_bits.h"
#include "span/object.h"
#include "span/page_info.h"
#include "span/size_class.h"
#include "span/sticky.h"

/* Up to this size the mark bits stay in the first-level caches, and to write one that is set already costs nothing. */
#define WRITE_ALWAYS_MOST_BYTES ((uintptr_t)32 << 20)

enum {
  FIFO_PLACES = 16,                    /* a power of two; about the misses that a core keeps under way */
  PIECE_BYTES = 4 * 1024,              /* of a large object: some ten microseconds, where each word misses the caches */
  PIECE_GROUP_BYTES = 8 * PIECE_BYTES, /* see push_pieces_after */
  PREFETCH_MOST_BYTES = 1024,          /* of an object that is about to be scanned; more gained nothing */
  SHARE_INTERVAL = 64,                 /* objects scanned between two looks at whether others want work */
  SHARE_LEAST = 16,                    /* fewer items are not worth sharing */
  NODE_BYTES_MAX = 32                  /* see mark_object_before */
};

/* What marking reads of the heap, constant while it runs but for the end of the arena: a copy in local variables, which no store
 * that the loop makes can change, stays in registers. */
struct heap_view {
  uintptr_t start, bytes; /* of the arena, as far as it is used; CONCURRENT: see renew_view */
  const uint16_t *page_info;
  uint64_t *marks;
  const uint64_t *allocations;
  bool tainted; /* on Valgrind: words must be laundered before anything is computed from them */
  bool watched; /* see mark_watch */
};

bool mark_postpones_traces;

static bool watched;                 /* atomic; constant while markers run, threads may see it change */
static bool postponed;               /* atomic; a trace function was not called, or may not have been */
static bool met;                     /* atomic; the former, in this cycle */
static bool types_have_traces;       /* atomic; one was met that has a trace function */
static uint32_t watch_is_incomplete; /* atomic */

static inline struct heap_view view_heap(void) {
  uintptr_t end = atomic_load_acquire(&heap_arena.used);
  named_free_note(end); /* whatever names it */
  return (struct heap_view){.start = heap_arena.start,
                            .bytes = end - heap_arena.start,
                            .page_info = heap_arena.page_info,
                            .marks = heap_arena.mark_bits[mark_side()],
                            .allocations = heap_arena.mark_bits[alloc_side()],
                            .tainted = memcheck_on_valgrind,
                            .watched = atomic_load_relaxed(&watched)};
}

/* CONCURRENT, before an object is scanned: the arena may have grown, and a word of the object name what lies there.  Who reads written
 * pages again passes over what is not marked (docs/dirty-pages.md), so all that the scan depends on is read after the mark bit is
 * set, the words too.  Sequentially consistent, as the setting of the bit is (claim): a processor that reorders accesses makes
 * neither this load nor those after it before that. */
ALWAYS_INLINE void renew_view(struct heap_view *heap) {
  uintptr_t bytes = atomic_load_seq_cst(&heap_arena.used) - heap->start;
  if (LIKELY(bytes == heap->bytes)) return;
  heap->bytes = bytes;
  named_free_note(heap->start + bytes);
}

/* Slots are told by their offset from the arena's start: with it their bits, and their page's information, are found. */
static inline size_t bit_word_of(uintptr_t slot) { return slot >> MARK_WORD_SHIFT; }
static inline uint64_t bit_mask_of(uintptr_t slot) { return UINT64_C(1) << (slot >> GRANULE_SHIFT & 63); }

static inline uint16_t info_of(struct heap_view heap, uintptr_t address) {
  return atomic_load_relaxed(&heap.page_info[(address - heap.start) >> PAGE_SHIFT]);
}

/* Where the page's span is asked for next: the thread that made the span has entered it by then (page_info_set). */
static inline uint16_t info_acquired(struct heap_view heap, uintptr_t address) {
  return atomic_load_acquire(&heap.page_info[(address - heap.start) >> PAGE_SHIFT]);
}

/* ---- watching ---- */

void mark_watch(bool watch) { atomic_store_relaxed(&watched, watch); }

bool mark_watch_was_incomplete(void) { return atomic_exchange_acq_rel(&watch_is_incomplete, 0u) != 0; }

/* Notes an object that was just marked, if something follows from that.  What follows is marked by the drain: to do it here
 * could come back here, as deep as a chain of ephemerons is long. */
static NOINLINE void note_marked(struct midden_tracer *tracer, uintptr_t object) {
  bool running = tracer->mode == MARK_CONCURRENT;
  if ((running && tracer->cycle != 0) || !settle_is_watched(object, running))
    return; /* a thread's marks are asked for later */
  struct work_buffer *buffer = tracer->woken;
  if (buffer == NULL || buffer->count == WORK_ITEMS) {
    buffer = work_get_empty();
    if (buffer == NULL) {
      atomic_store_relaxed(&watch_is_incomplete, 1u);
      return;
    }
    atomic_store_relaxed(&buffer->next, tracer->woken);
    tracer->woken = buffer;
  }
  buffer->items[buffer->count++] = object;
}

/* Marks what follows from one of the objects noted; false if there is none. */
static bool mark_woken(struct midden_tracer *tracer) {
  struct work_buffer *buffer = tracer->woken;
  if (buffer == NULL) return false;
  uintptr_t object = buffer->items[--buffer->count];
  if (buffer->count == 0) {
    tracer->woken = buffer->next;
    work_put_empty(buffer);
  }
  settle_mark_consequences(tracer, object);
  return true;
}

/* ---- grey objects ---- */

ALWAYS_INLINE void count_marked(struct midden_tracer *tracer, struct heap_view heap, uintptr_t slot,
                                unsigned size_class, enum tally_row row) {
  tracer->marked.objects[row][size_class]++;
  if (UNLIKELY(size_class == 0)) tracer->marked.large_bytes[row] += span_bytes(object_span(heap.start + slot));
  if (UNLIKELY(heap.watched)) note_marked(tracer, heap.start + slot);
}

/* Whether a marked slot holds an object.  If not, the mark is taken back; others may have seen it, and passed the slot
 * over just the same. */
ALWAYS_INLINE bool confirm(struct midden_tracer *tracer, struct heap_view heap, uintptr_t slot, unsigned size_class,
                           enum tally_row row) {
  uint64_t mask = bit_mask_of(slot);
  if (UNLIKELY((heap.allocations[bit_word_of(slot)] & mask) == 0)) {
    atomic_and_relaxed(&heap.marks[bit_word_of(slot)], ~mask);
    return false;
  }
  count_marked(tracer, heap, slot, size_class, row);
  return true;
}

/* Whether a grey item is not an object's start, but a further piece of a large object. */
ALWAYS_INLINE bool is_piece(uintptr_t item, uint16_t info) {
  return UNLIKELY(page_info_class(info) == 0) && item != object_slot_start(item, info);
}

/* The older half of the buffer goes to the pool. */
static void publish_half(struct midden_tracer *tracer) {
  struct work_buffer *half = work_get_empty();
  if (half == NULL) return;
  struct work_buffer *buffer = tracer->buffer;
  size_t count = buffer->count / 2;
  memcpy(half->items, buffer->items, count * sizeof buffer->items[0]);
  memmove(buffer->items, buffer->items + count, (buffer->count - count) * sizeof buffer->items[0]);
  half->count = count;
  buffer->count -= count;
  work_publish(half);
}

static NOINLINE void push_slow(struct midden_tracer *tracer, uintptr_t object) {
  if (tracer->buffer == NULL) {
    tracer->buffer = work_get_empty();
  } else {
    publish_half(tracer);
  }
  struct work_buffer *buffer = tracer->buffer;
  if (buffer != NULL && buffer->count < WORK_ITEMS) {
    buffer->items[buffer->count++] = object;
    return;
  }
  struct heap_view heap = view_heap();
  uint16_t info = info_of(heap, object);
  if (tracer->mode == MARK_CONCURRENT || is_piece(object, info) ||
      confirm(tracer, heap, object - heap.start, page_info_class(info), TALLY_SCANNED))
    work_overflow(object);
}

ALWAYS_INLINE bool has_room(const struct midden_tracer *tracer) {
  return tracer->buffer != NULL && tracer->buffer->count < WORK_ITEMS;
}

ALWAYS_INLINE void push(struct midden_tracer *tracer, uintptr_t object) {
  if (LIKELY(has_room(tracer))) {
    tracer->buffer->items[tracer->buffer->count++] = object;
  } else {
    push_slow(tracer, object);
  }
}

/* The newest grey object of this marker, or 0. */
ALWAYS_INLINE uintptr_t pop(struct midden_tracer *tracer) {
  struct work_buffer *buffer = tracer->buffer;
  if (UNLIKELY(buffer == NULL || buffer->count == 0)) return 0;
  return buffer->items[--buffer->count];
}

static void replace_buffer(struct midden_tracer *tracer, struct work_buffer *buffer) {
  if (tracer->buffer != NULL) work_put_empty(tracer->buffer);
  tracer->buffer = buffer;
}

/* ---- from a word to a grey object ---- */

/* Sets a mark bit; true if this marker was the first. */
ALWAYS_INLINE bool claim(struct heap_view heap, uintptr_t slot, enum mark_mode mode) {
  uint64_t *word = &heap.marks[bit_word_of(slot)];
  uint64_t mask = bit_mask_of(slot);
  uint64_t seen = atomic_load_relaxed(word);
  if ((seen & mask) != 0) return false;
  /* Pairs with the release in mark_bits_set_slots: who sees a black object's allocation bit sees its mark bit below. */
  if (mode == MARK_CONCURRENT && (atomic_load_acquire(&heap.allocations[bit_word_of(slot)]) & mask) == 0) {
    named_free_note(heap.start + slot);
    return false;
  }
  /* Sequentially consistent for the sake of ephemerons, see gc/cell.h, and of renew_view. */
  if (mode != MARK_ALONE) return (atomic_or_seq_cst(word, mask) & mask) == 0;
  *word = seen | mask;
  return true;
}

/* Pushes first and counts afterwards: whether a slot was marked before is the one thing in this loop that no processor can
 * predict.  For a lone marker and a small heap; in a large one the writes cost more than the mispredictions. */
ALWAYS_INLINE void mark_and_push(struct midden_tracer *tracer, struct heap_view heap, uintptr_t slot) {
  struct work_buffer *buffer = tracer->buffer;
  uint64_t *word = &heap.marks[bit_word_of(slot)];
  uint64_t seen = *word;
  unsigned bit = slot >> GRANULE_SHIFT & 63;
  size_t count = buffer->count;
  *word = seen | UINT64_C(1) << bit;
  buffer->items[count] = heap.start + slot;
  buffer->count = count + (~seen >> bit & 1);
}

ALWAYS_INLINE void mark_slot(struct midden_tracer *tracer, struct heap_view heap, struct mark_candidate candidate,
                             enum mark_mode mode) {
  bool write_always = mode == MARK_ALONE && heap.bytes <= WRITE_ALWAYS_MOST_BYTES;
  if (write_always && page_info_scan(candidate.info) != SCAN_NONE && LIKELY(has_room(tracer))) {
    mark_and_push(tracer, heap, candidate.slot);
    return;
  }
  if (!claim(heap, candidate.slot, mode)) return;
  bool scanned = page_info_scan(candidate.info) != SCAN_NONE;
  if (mode == MARK_CONCURRENT) {
    count_marked(tracer, heap, candidate.slot, page_info_class(candidate.info), scanned ? TALLY_SCANNED : TALLY_DATA);
    if (scanned) push(tracer, heap.start + candidate.slot);
  } else if (scanned) {
    push(tracer, heap.start + candidate.slot);
  } else {
    confirm(tracer, heap, candidate.slot, page_info_class(candidate.info), TALLY_DATA);
  }
}

/* Queues the slot that a word names, if any, and marks the one that waited longest. */
ALWAYS_INLINE void mark_word(struct midden_tracer *tracer, struct heap_view heap, uintptr_t word, enum mark_mode mode) {
  uintptr_t offset = word - heap.start;
  if (offset >= heap.bytes) return;
  if (heap.tainted) offset = memcheck_launder(offset);
  uint16_t info = atomic_load_relaxed(&heap.page_info[offset >> PAGE_SHIFT]);
  if (info == 0) {
    if (mode == MARK_CONCURRENT) named_free_note(word);
    return;
  }
  struct mark_candidate candidate = {.slot = object_slot_offset(offset, info), .info = info};
  __builtin_prefetch(&heap.marks[bit_word_of(candidate.slot)], 1);
  if (mode == MARK_CONCURRENT) __builtin_prefetch(&heap.allocations[bit_word_of(candidate.slot)]);
  struct mark_candidate *place = &tracer->candidates[tracer->next_candidate++ % MARK_CANDIDATES];
  struct mark_candidate oldest = *place;
  *place = candidate;
  if (LIKELY(oldest.info != 0)) mark_slot(tracer, heap, oldest, mode);
}

static void settle_candidates(struct midden_tracer *tracer, enum mark_mode mode) {
  struct heap_view heap = view_heap();
  for (unsigned i = 0; i < MARK_CANDIDATES; i++) {
    struct mark_candidate candidate = tracer->candidates[i];
    tracer->candidates[i].info = 0;
    if (candidate.info != 0) mark_slot(tracer, heap, candidate, mode);
  }
}

ALWAYS_INLINE NO_SANITIZE void mark_words(struct midden_tracer *tracer, struct heap_view heap, uintptr_t start,
                                          uintptr_t end, enum mark_mode mode) {
  for (const uintptr_t *word = (const uintptr_t *)start; word < (const uintptr_t *)end; word++)
    mark_word(tracer, heap, atomic_load_relaxed(word), mode);
}

/* ---- from an object to its words ---- */

/* Whether the object's trace function is not to be called beside the program: mark_postponed_stw comes back to it. */
static bool postpone(const struct midden_tracer *tracer) {
  if (!mark_postpones_traces || tracer->mode != MARK_CONCURRENT || tracer->calls_traces) return false;
  atomic_store_relaxed(&postponed, true);
  atomic_store_relaxed(&met, true);
  return true;
}

/* In guarding modes an object may hold old words until it is handed out. */
static bool may_run_beside(const struct kind *kind) { return kind->trace_beside && !guard_active; }

static READS_SLOTS void mark_element(struct midden_tracer *tracer, struct heap_view heap, uintptr_t element,
                                     const struct midden_type *type) {
  if (type->trace != NULL) {
    atomic_store_relaxed(&types_have_traces, true);
    if (postpone(tracer)) return;
    type->trace((void *)element, type->size, tracer, type->argument);
    return;
  }
  if (type->pointers == NULL) return;
  const uintptr_t *words = (const uintptr_t *)element;
  size_t count = type->size / sizeof(uintptr_t);
  for (size_t i = 0; i < count; i += 64) {
    /* Bits beyond the last word may be set, as in ~0: nothing is there to be read. */
    uint64_t valid = count - i < 64 ? (UINT64_C(1) << (count - i)) - 1 : UINT64_MAX;
    for (uint64_t bits = type->pointers[i / 64] & valid; bits != 0; bits &= bits - 1)
      mark_word(tracer, heap, atomic_load_relaxed(&words[i + lowest_bit(bits)]), tracer->mode);
  }
}

/* The elements that start in [from, to) of a typed object. */
static READS_SLOTS void mark_typed(struct midden_tracer *tracer, uintptr_t object, uintptr_t slot_end, uintptr_t from,
                                   uintptr_t to) {
  const uintptr_t *trailer = (const uintptr_t *)slot_end;
  uintptr_t tagged = atomic_load_acquire(&trailer[-1]); /* pairs with the stamp: the count before it is there */
  const struct midden_type *type = (const struct midden_type *)(tagged & ~(uintptr_t)TYPE_ARRAY_TAG);
  if (type == NULL || type->size == 0) return; /* handed out, and its type not yet written */
  size_t count = (tagged & TYPE_ARRAY_TAG) != 0 ? trailer[-2] : 1;
  struct heap_view heap = view_heap();
  size_t first = (from - object + type->size - 1) / type->size;
  for (size_t i = first; i < count && object + i * type->size < to; i++)
    mark_element(tracer, heap, object + i * type->size, type);
}

/* The first piece of a group pushes the others, and the first of the next group.  One piece at a time would leave the other
 * markers nothing to take but what this one holds of a single piece, and they would wait once for each. */
static void push_pieces_after(struct midden_tracer *tracer, const struct span *span, uintptr_t piece) {
  if ((piece - span->start) % PIECE_GROUP_BYTES != 0) return;
  uintptr_t end = span_end(span);
  uintptr_t group_end = piece + PIECE_GROUP_BYTES;
  if (group_end < end) push(tracer, group_end);
  for (uintptr_t other = group_end - PIECE_BYTES; other > piece; other -= PIECE_BYTES) {
    if (other < end) push(tracer, other);
  }
}

/* One piece of a large object. */
static NOINLINE READS_SLOTS void scan_large(struct midden_tracer *tracer, uintptr_t piece, enum scan_mode scan) {
  const struct span *span = object_span(piece);
  uintptr_t end = span_end(span);
  uintptr_t piece_end = min_size(piece + PIECE_BYTES, end);
  const struct kind *kind = &kind_table[span->kind];
  switch (scan) {
    case SCAN_TRACE:
      if (!may_run_beside(kind) && postpone(tracer)) return;
      kind->trace((void *)span->start, guard_active ? guard_size_sound(span, span->start) : span_bytes(span), tracer,
                  kind->argument);
      return;
    case SCAN_TYPED:
      if (guard_active && postpone(tracer)) return; /* it may not be cleared yet */
      push_pieces_after(tracer, span, piece);
      mark_typed(tracer, span->start, end, piece, piece_end);
      return;
    case SCAN_CONSERVATIVE:
      push_pieces_after(tracer, span, piece);
      mark_words(tracer, view_heap(), piece, piece_end, tracer->mode);
      return;
    case SCAN_NONE:
      return;
  }
}

static void trace_slot(struct midden_tracer *tracer, uintptr_t object, size_t slot_bytes) {
  const struct span *span = object_span(object);
  const struct kind *kind = &kind_table[span->kind];
  if (!may_run_beside(kind) && postpone(tracer)) return;
  size_t bytes = guard_active ? guard_size_sound(span, object) : slot_bytes;
  kind->trace((void *)object, bytes, tracer, kind->argument);
}

static NOINLINE void scan_special(struct midden_tracer *tracer, uintptr_t object, enum scan_mode scan,
                                  size_t slot_bytes) {
  if (scan == SCAN_TYPED) {
    if (guard_active && postpone(tracer)) return; /* as above */
    mark_typed(tracer, object, object + slot_bytes, object, object + slot_bytes);
  } else if (scan == SCAN_TRACE) {
    trace_slot(tracer, object, slot_bytes);
  }
}

ALWAYS_INLINE void scan_object(struct midden_tracer *tracer, struct heap_view heap, uintptr_t object, uint16_t info,
                               enum mark_mode mode) {
  unsigned size_class = page_info_class(info);
  enum scan_mode scan = page_info_scan(info);
  if (UNLIKELY(size_class == 0)) {
    scan_large(tracer, object, scan);
  } else if (LIKELY(scan == SCAN_CONSERVATIVE)) {
    mark_words(tracer, heap, object, object + size_class_bytes[size_class], mode);
  } else {
    scan_special(tracer, object, scan, size_class_bytes[size_class]);
  }
}

/* What scanning an item of a work buffer counts for. */
ALWAYS_INLINE size_t item_bytes(uint16_t info) {
  unsigned size_class = page_info_class(info);
  return size_class == 0 ? PIECE_BYTES : size_class_bytes[size_class];
}

ALWAYS_INLINE size_t blacken(struct midden_tracer *tracer, struct heap_view heap, uintptr_t item, uint16_t info,
                             enum mark_mode mode) {
  /* The pieces of an object follow one that was confirmed. */
  if (mode == MARK_CONCURRENT || is_piece(item, info) ||
      confirm(tracer, heap, item - heap.start, page_info_class(info), TALLY_SCANNED))
    scan_object(tracer, heap, item, info, mode);
  return mode == MARK_CONCURRENT ? item_bytes(info) : 0;
}

/* ---- the loop ---- */

ALWAYS_INLINE bool refill(struct midden_tracer *tracer, enum mark_mode mode) {
  struct work_buffer *buffer = work_take();
  if (buffer == NULL && mode == MARK_PARALLEL) {
    if (tracer->buffer != NULL) replace_buffer(tracer, NULL);
    buffer = work_take_or_finish();
  }
  if (buffer == NULL) return false;
  replace_buffer(tracer, buffer);
  /* The last buffer is shared at once: who takes it all leaves the others waiting, and they cannot ask. */
  if (mode == MARK_CONCURRENT && buffer->count >= 2 * SHARE_LEAST && !work_is_available()) publish_half(tracer);
  return true;
}

/* The budget is used up: what is on its way to be scanned goes back. */
static NOINLINE void give_back(struct midden_tracer *tracer, const uintptr_t *fifo) {
  for (unsigned i = 0; i < FIFO_PLACES; i++) {
    if (fifo[i] != 0) push(tracer, fifo[i]);
  }
}

/* Asks for the lines behind the first of the item that is scanned next.  That it has the size of this one is a guess, which
 * costs small objects nothing. */
ALWAYS_INLINE void prefetch_rest(uintptr_t item, size_t bytes) {
  for (size_t line = CACHE_LINE_BYTES; line < bytes && line < PREFETCH_MOST_BYTES; line += CACHE_LINE_BYTES)
    __builtin_prefetch((const void *)(item + line));
}

/* Until nothing is left, or CONCURRENT: until `budget` bytes were scanned; false in that case. */
ALWAYS_INLINE bool drain(struct midden_tracer *tracer, enum mark_mode mode, bool tainted, size_t budget) {
  struct heap_view heap = view_heap();
  heap.tainted = tainted;
  uintptr_t fifo[FIFO_PLACES] = {0};
  unsigned place = 0, waiting = 0, scanned = 0;
  size_t bytes = 0;
  for (;;) {
    uintptr_t object = pop(tracer);
    if (object != 0) {
      __builtin_prefetch((const void *)object);
      if (mode != MARK_CONCURRENT) __builtin_prefetch(&heap.allocations[bit_word_of(object - heap.start)]);
      waiting++;
    } else if (waiting == 0) {
      settle_candidates(tracer, mode);
      if (tracer->buffer != NULL && tracer->buffer->count != 0) continue;
      if (UNLIKELY(heap.watched) && mark_woken(tracer)) continue;
      if (!refill(tracer, mode)) break;
      continue;
    }
    uintptr_t next = fifo[place];
    fifo[place] = object;
    place = (place + 1) % FIFO_PLACES;
    if (next == 0) continue;
    waiting--;
    uint16_t info = info_of(heap, next);
    size_t slot_bytes = size_class_bytes[page_info_class(info)];
    if (UNLIKELY(slot_bytes > CACHE_LINE_BYTES)) prefetch_rest(fifo[place], slot_bytes);
    if (mode == MARK_CONCURRENT) renew_view(&heap);
    bytes += blacken(tracer, heap, next, info, mode);
    if (mode == MARK_CONCURRENT && bytes >= budget) {
      give_back(tracer, fifo);
      tracer->scanned_bytes += bytes;
      return false;
    }
    if (mode != MARK_ALONE && ++scanned % SHARE_INTERVAL == 0 && work_is_wanted() && tracer->buffer != NULL &&
        tracer->buffer->count >= SHARE_LEAST) {
      publish_half(tracer);
    }
  }
  tracer->scanned_bytes += bytes;
  return true;
}

READS_SLOTS void mark_drain(struct midden_tracer *tracer) {
  /* Copies of the loop: the one for a single marker has no locked instruction, and only the last has to ask. */
  if (UNLIKELY(memcheck_on_valgrind)) {
    drain(tracer, tracer->mode, true, SIZE_MAX);
  } else if (tracer->mode == MARK_PARALLEL) {
    drain(tracer, MARK_PARALLEL, false, SIZE_MAX);
  } else {
    drain(tracer, MARK_ALONE, false, SIZE_MAX);
  }
}

READS_SLOTS bool mark_drain_some(struct midden_tracer *tracer, size_t bytes) {
  ASSERT(tracer->mode == MARK_CONCURRENT);
  if (UNLIKELY(memcheck_on_valgrind)) return drain(tracer, MARK_CONCURRENT, true, bytes);
  return drain(tracer, MARK_CONCURRENT, false, bytes);
}

/* For what is not in the loop: marking as if others did, which is right in any case. */
static enum mark_mode shared_mode(const struct midden_tracer *tracer) {
  return tracer->mode == MARK_CONCURRENT ? MARK_CONCURRENT : MARK_PARALLEL;
}

bool mark_publish(struct midden_tracer *tracer) {
  settle_candidates(tracer, shared_mode(tracer));
  struct work_buffer *buffer = tracer->buffer;
  if (buffer == NULL) return false;
  tracer->buffer = NULL;
  bool had_items = buffer->count != 0;
  if (had_items) {
    work_publish(buffer);
  } else {
    work_put_empty(buffer);
  }
  return had_items;
}

uint64_t mark_count(const struct midden_tracer *tracer) { return tally_objects(&tracer->marked); }

/* ---- the rest ---- */

void mark_begin(struct midden_tracer *tracer, enum mark_mode mode) { *tracer = (struct midden_tracer){.mode = mode}; }

void mark_address(struct midden_tracer *tracer, uintptr_t address) {
  if (UNLIKELY(tracer->visit != NULL)) {
    tracer->visit(tracer, address, false);
  } else {
    mark_word(tracer, view_heap(), address, shared_mode(tracer));
  }
}

void mark_settle(struct midden_tracer *tracer) { settle_candidates(tracer, shared_mode(tracer)); }

/* Small objects with pointers, which are nodes rather than arrays; and those of which the program knows nothing but the address. */
static bool is_no_array(uintptr_t last_byte, uint16_t info) {
  if (page_info_scan(info) == SCAN_NONE || page_info_class(info) == 0) return false;
  if (size_class_bytes[page_info_class(info)] <= NODE_BYTES_MAX) return true;
  return page_info_scan(info) == SCAN_TRACE && kind_is_own(atomic_load_relaxed(&object_span(last_byte)->kind));
}

/* All that a compiler kept of an object may be the address one past its end, which is where the next slot starts.  To
 * keep both is right, but costs: where neighbours were allocated one after the other, a live node would keep the root of
 * a dead tree beside it, and a fiber, whose address lies on its own stack, the fiber beside it with all that hangs on that one's, and so
 * on.  A compiler forms such addresses to walk an array; so what is none is left out. */
static void mark_object_before(struct midden_tracer *tracer, struct heap_view heap, uintptr_t word) {
  uintptr_t last_byte = word - 1;
  uint16_t info = info_acquired(heap, last_byte);
  if (info != 0 && !is_no_array(last_byte, info)) mark_word(tracer, heap, last_byte, shared_mode(tracer));
}

/* Its thread may be filling the object for the first time, and go on without barrier when it was scanned: as if it had stored to
 * all of it then. */
static NOINLINE void note_filled(struct heap_view heap, uintptr_t address) {
  if (address - heap.start >= heap.bytes) return;
  uint16_t info = info_acquired(heap, address);
  if (info == 0 || page_info_scan(info) == SCAN_NONE) return;
  uintptr_t object = object_slot_start(address, info);
  if (page_info_class(info) == 0) {
    cards_note_large(object_span(object));
  } else {
    cards_note_range(object, object + size_class_bytes[page_info_class(info)]);
  }
}

/* `word` is an address in the heap, or its end. */
static void mark_stack_word(struct midden_tracer *tracer, struct heap_view heap, uintptr_t word) {
  uintptr_t offset = word - heap.start;
  mark_word(tracer, heap, word, shared_mode(tracer));
  if (offset % GRANULE_BYTES == 0 && offset != 0) mark_object_before(tracer, heap, word);
  if (LIKELY(!cards_are_kept())) return;
  note_filled(heap, word);
  if (offset % GRANULE_BYTES == 0 && offset != 0) note_filled(heap, word - 1);
}

static NO_SANITIZE void visit_words(struct midden_tracer *tracer, uintptr_t start, uintptr_t end, bool is_stack) {
  for (const uintptr_t *word = (const uintptr_t *)start; word < (const uintptr_t *)end; word++)
    tracer->visit(tracer, *word, is_stack);
}

NO_SANITIZE void mark_range(struct midden_tracer *tracer, struct os_range range, bool is_stack) {
  uintptr_t start = round_up(range.start, sizeof(uintptr_t));
  uintptr_t end = round_down(range.end, sizeof(uintptr_t));
  if (UNLIKELY(tracer->visit != NULL)) {
    visit_words(tracer, start, end, is_stack);
    return;
  }
  if (is_stack && start < end) tracer->stack_bytes += end - start;
  struct heap_view heap = view_heap();
  for (const uintptr_t *at = (const uintptr_t *)start; at < (const uintptr_t *)end; at++) {
    uintptr_t word = atomic_load_relaxed(at);
    if (LIKELY(word - heap.start > heap.bytes)) continue; /* most of them, and fast: neither in the heap nor its end */
    if (is_stack) {
      mark_stack_word(tracer, heap, word);
    } else {
      mark_word(tracer, heap, word, shared_mode(tracer));
    }
  }
}

/* Whether a slot holds an object that is marked.  A mark without allocation bit is to be taken back, by the marker that has
 * set it or when the slot is popped.  An acquire of the allocation bit, as in claim: the slot was cleared before, and no type is
 * read that an object before this one had. */
static bool is_marked_object(uintptr_t slot) {
  if (!mark_bit_get(&heap_arena, mark_side(), slot)) return false;
  return (atomic_load_acquire(mark_word_of(&heap_arena, alloc_side(), slot)) & mark_mask_of(slot)) != 0;
}

/* Of the slots of a word of bits, those that are old: marked before this cycle, or by it.  Who was born in it need not be looked at.
 * Acquires: what is marked was noted as born before, and what counts as allocated was cleared. */
ALWAYS_INLINE uint64_t old_in_word(struct heap_view heap, size_t word) {
  uint64_t bits = atomic_load_acquire(&heap.marks[word]);
  if (bits != 0) bits &= atomic_load_acquire(&heap.allocations[word]);
  return bits != 0 && sticky_forgets_born ? bits & ~atomic_load_relaxed(&heap_arena.mark_bits[ARENA_BORN][word]) : bits;
}

/* Whether a slot that has both bits holds an object: in guarding modes one in a window holds poison still. */
static bool is_handed_out(uintptr_t slot) { return !guard_active || guard_size(object_span(slot), slot) != 0; }

static bool is_old(struct heap_view heap, uintptr_t object) {
  return (old_in_word(heap, bit_word_of(object - heap.start)) & bit_mask_of(object)) != 0 && is_handed_out(object);
}

static READS_SLOTS void rescan_span(struct midden_tracer *tracer, struct heap_view heap, const struct span *span) {
  FOR_EACH_BIT (object, mark_side(), span->start, span_end(span)) {
    if (is_old(heap, object)) scan_object(tracer, heap, object, info_of(heap, object), shared_mode(tracer));
  }
}

static bool is_scanned(enum scan_mode scan) { return scan != SCAN_NONE; }
static bool is_called(enum scan_mode scan) { return scan == SCAN_TRACE; }
static bool is_called_or_typed(enum scan_mode scan) { return scan == SCAN_TRACE || scan == SCAN_TYPED; }

/* Of what was met.  Guarded objects with types are postponed in any case. */
static bool may_be_called(enum scan_mode scan) {
  return scan == SCAN_TRACE || (scan == SCAN_TYPED && (guard_active || atomic_load_relaxed(&types_have_traces)));
}

static bool is_any(const struct span *span) {
  (void)span;
  return true;
}

/* Small objects whose trace functions run beside the program are read again where they were written, like others. */
static bool is_called_in_stop(const struct span *span) {
  return !may_run_beside(&kind_table[span->kind]) || span->size_class == 0;
}

/* Scans the marked objects of the spans that are at least in part in [low, high], wanted, and to be scanned in a way that is wanted:
 * as their pages tell, since a look at every span would take longer than the rest. */
static READS_SLOTS void rescan(struct midden_tracer *tracer, uintptr_t low, uintptr_t high,
                               bool (*wanted)(enum scan_mode scan), bool (*span_wanted)(const struct span *span)) {
  struct heap_view heap = view_heap();
  uintptr_t page = low & ~(PAGE_BYTES - 1);
  for (uintptr_t next; page <= high; page = next) {
    next = page + PAGE_BYTES;
    uint16_t info = info_of(heap, page);
    if (info == 0 || !wanted(page_info_scan(info))) continue;
    const struct span *span = arena_span_of(&heap_arena, page);
    if (span == NULL || span_state(span) != SPAN_IN_USE) continue;
    if (span_wanted(span)) rescan_span(tracer, heap, span);
    next = span_end(span);
  }
}

bool mark_rescan_overflow(struct midden_tracer *tracer) {
  uintptr_t low, high;
  if (!work_take_overflow(&low, &high)) return false;
  rescan(tracer, low, high, is_scanned, is_any);
  return true;
}

/* Whose trace functions, if any, are called in the stop alone. */
static bool has_objects_of(bool (*wanted)(enum scan_mode scan)) {
  for (unsigned kind = 0; kind < atomic_load_acquire(&kind_count); kind++) {
    bool is_wanted = wanted(kind_table[kind].scan) && !may_run_beside(&kind_table[kind]);
    if (is_wanted && central_if_exists(kind, 0) != NULL) return true;
  }
  return false;
}

bool mark_may_postpone(void) { return has_objects_of(is_called_or_typed); }

bool mark_has_postponed(void) { return atomic_load_relaxed(&met); }

void mark_forget_postponed(void) {
  atomic_store_relaxed(&postponed, false);
  atomic_store_relaxed(&met, false);
}

void mark_postpone_all(void) {
  if (has_objects_of(may_be_called)) atomic_store_relaxed(&postponed, true);
}

/* With or without, trace functions of objects that were never met, but are black. */
void mark_postponed_stw(struct midden_tracer *tracer) {
  bool any = atomic_exchange_acq_rel(&postponed, false);
  if (any || has_objects_of(is_called))
    rescan(tracer, heap_arena.start, heap_arena.used - 1, any ? may_be_called : is_called, is_called_in_stop);
}

bool mark_has_to_call_again(void) { return has_objects_of(may_be_called); }

void mark_call_again(struct midden_tracer *tracer, struct os_range part) {
  const struct span *span = arena_span_of(&heap_arena, part.start);
  if (span != NULL && span->start < part.start) part.start = min_size(span_end(span), part.end);
  if (part.start < part.end) rescan(tracer, part.start, part.end - 1, may_be_called, is_called_in_stop);
}

/* ---- parts of the heap ---- */

/* The elements of a typed object that are at least in part in [from, to). */
static READS_SLOTS void mark_typed_part(struct midden_tracer *tracer, uintptr_t object, uintptr_t slot_end,
                                        uintptr_t from, uintptr_t to) {
  uintptr_t tagged = atomic_load_relaxed(&((const uintptr_t *)slot_end)[-1]);
  const struct midden_type *type = (const struct midden_type *)(tagged & ~(uintptr_t)TYPE_ARRAY_TAG);
  size_t reach = type == NULL || type->size == 0 ? 0 : type->size - 1;
  mark_typed(tracer, object, slot_end, from - object > reach ? from - reach : object, to);
}

/* No part of an object can be asked for; so of a large one that is written all over nothing is, until the stop. */
static void trace_again(struct midden_tracer *tracer, uintptr_t object, size_t slot_bytes, unsigned size_class) {
  if (!may_run_beside(&kind_table[object_span(object)->kind])) {
    postpone(tracer); /* in the stop all of them are called anyway */
    return;
  }
  if (size_class == 0 && postpone(tracer)) return;
  trace_slot(tracer, object, slot_bytes);
}

static READS_SLOTS void mark_part(struct midden_tracer *tracer, struct heap_view heap, uintptr_t object,
                                  size_t slot_bytes, struct os_range part) {
  uint16_t info = info_of(heap, object);
  uintptr_t from = max_size(part.start, object), to = min_size(part.end, object + slot_bytes);
  switch (page_info_scan(info)) {
    case SCAN_CONSERVATIVE:
      mark_words(tracer, heap, from, to, shared_mode(tracer));
      return;
    case SCAN_TYPED:
      if (guard_active && postpone(tracer)) return; /* its last words may be poison still */
      mark_typed_part(tracer, object, object + slot_bytes, from, to);
      return;
    case SCAN_TRACE:
      trace_again(tracer, object, slot_bytes, page_info_class(info));
      return;
    case SCAN_NONE:
      return;
  }
}

/* Trace functions are called for all of an object in any case. */
static bool has_pieces(uint16_t info) { return page_info_class(info) == 0 && page_info_scan(info) != SCAN_TRACE; }

READS_SLOTS void mark_contents(struct midden_tracer *tracer, uintptr_t object, bool at_once) {
  struct heap_view heap = view_heap();
  uint16_t info = info_of(heap, object);
  if (at_once && has_pieces(info)) {
    size_t bytes = span_bytes(object_span(object));
    mark_part(tracer, heap, object, bytes, (struct os_range){object, object + bytes});
  } else {
    scan_object(tracer, heap, object, info, shared_mode(tracer));
  }
}

/* The objects of small classes that are in a page, or reach into it. */
static size_t mark_page_of_slots(struct midden_tracer *tracer, struct heap_view heap, uint16_t info,
                                 struct os_range part) {
  size_t slot_bytes = size_class_bytes[page_info_class(info)], bytes = 0;
  uintptr_t slot = object_slot_start(part.start, info);
  if (!is_marked_object(slot)) slot = mark_bits_next(&heap_arena, mark_side(), slot + GRANULE_BYTES, part.end);
  for (; slot < part.end; slot = mark_bits_next(&heap_arena, mark_side(), slot + GRANULE_BYTES, part.end)) {
    if (!is_marked_object(slot)) continue;
    mark_part(tracer, heap, slot, slot_bytes, part);
    bytes += slot_bytes;
  }
  return bytes;
}

READS_SLOTS size_t mark_range_again(struct midden_tracer *tracer, struct os_range range) {
  struct heap_view heap = view_heap();
  size_t bytes = 0;
  for (uintptr_t at = range.start, next; at < range.end; at = next) {
    next = min_size(range.end, (at & ~(uintptr_t)(PAGE_BYTES - 1)) + PAGE_BYTES);
    uint16_t info = info_acquired(heap, at);
    if (info == 0 || page_info_scan(info) == SCAN_NONE) continue;
    if (page_info_class(info) != 0) {
      bytes += mark_page_of_slots(tracer, heap, info, (struct os_range){at, next});
      continue;
    }
    const struct span *span = object_span(at);
    next = min_size(range.end, span_end(span));
    if (!is_marked_object(span->start)) continue;
    mark_part(tracer, heap, span->start, span_bytes(span), (struct os_range){at, next});
    bytes += next - at;
  }
  return bytes;
}

/* Those that start in [from, end), where objects of small classes are. */
ALWAYS_INLINE void push_marked(struct midden_tracer *tracer, struct heap_view heap, uintptr_t from, uintptr_t end) {
  while (from < end) {
    uintptr_t word_start = round_down(from, MARK_WORD_BYTES), next = word_start + MARK_WORD_BYTES;
    size_t word = bit_word_of(from - heap.start);
    uint64_t bits = old_in_word(heap, word) & UINT64_MAX << (from >> GRANULE_SHIFT & 63);
    if (end < next) bits &= bit_mask_of(end) - 1;
    for (; bits != 0; bits &= bits - 1) {
      uintptr_t slot = word_start + ((uintptr_t)lowest_bit(bits) << GRANULE_SHIFT);
      if (is_handed_out(slot)) push(tracer, slot);
    }
    from = next;
  }
}

static void push_page_of_slots(struct midden_tracer *tracer, struct heap_view heap, uint16_t info,
                               struct os_range part) {
  uintptr_t first = object_slot_start(part.start, info);
  if (first < part.start && is_old(heap, first)) push(tracer, first); /* it reaches into the part */
  push_marked(tracer, heap, part.start, part.end);
}

READS_SLOTS bool mark_grey_again(struct midden_tracer *tracer, struct os_range range) {
  struct heap_view heap = view_heap();
  bool all = true;
  for (uintptr_t at = range.start, next; at < range.end; at = next) {
    next = min_size(range.end, (at & ~(uintptr_t)(PAGE_BYTES - 1)) + PAGE_BYTES);
    uint16_t info = info_acquired(heap, at);
    if (info == 0 || page_info_scan(info) == SCAN_NONE) continue;
    if (page_info_class(info) != 0) {
      push_page_of_slots(tracer, heap, info, (struct os_range){at, next});
    } else {
      all = false;
    }
  }
  return all;
}

READS_SLOTS void mark_large_again(struct midden_tracer *tracer, struct os_range range) {
  struct heap_view heap = view_heap();
  uint16_t info = info_acquired(heap, range.start);
  if (info == 0 || page_info_class(info) != 0 || page_info_scan(info) == SCAN_NONE) return;
  uintptr_t object = object_slot_start(range.start, info);
  if (!is_old(heap, object)) return;
  const struct span *span = object_span(object);
  if (range.start == object && cards_is_large_noted(span)) {
    push(tracer, object); /* all of it */
  } else {
    mark_part(tracer, heap, object, span_bytes(span), range);
  }
}

bool mark_is_marked(const void *address) {
  struct object object;
  return object_find(address, &object) && mark_bit_get(&heap_arena, mark_side(), object.start);
}

/* ---- by hand ---- */

/* Atomic: trace functions may mark by hand in several threads. */
static struct {
  bool open;
  struct tally marked;
} by_hand;

void mark_by_hand(const void *address) {
  struct object object;
  if (!atomic_load_relaxed(&by_hand.open) || !object_find(address, &object)) return;
  if (mark_bit_set(&heap_arena, mark_side(), object.start)) return;
  const struct span *span = object.span;
  enum tally_row row = tally_row_of(span->kind);
  atomic_add_relaxed(&by_hand.marked.objects[row][span->size_class], UINT64_C(1));
  if (span->size_class == 0) atomic_add_relaxed(&by_hand.marked.large_bytes[row], (uint64_t)span_bytes(span));
}

void mark_open_by_hand_stw(void) { atomic_store_relaxed(&by_hand.open, true); }

void mark_shut_by_hand_stw(void) { atomic_store_relaxed(&by_hand.open, false); }

void mark_close_by_hand(struct tally *marked) {
  atomic_store_relaxed(&by_hand.open, false);
  if (marked != NULL) tally_add(marked, &by_hand.marked);
  by_hand.marked = (struct tally){0};
}

#include "gc/cell.h"

#include <errno.h>

#include "base/atomic.h"
#include "base/check.h"
#include "gc/concurrent.h"
#include "mutator/barrier.h"
#include "span/kind.h"
#include "span/mark_bits.h"
#include "span/object.h"
#include "span/slots.h"

struct cell_head {
  struct special special;
  struct cell *first;
};

uint64_t cell_ephemerons_died;

/* Pairs with the sequentially consistent setting of mark bits; see the header. */
static bool is_marked(uintptr_t object) {
  return (atomic_load_seq_cst(mark_word_of(&heap_arena, mark_side(), object)) & mark_mask_of(object)) != 0;
}

/* ---- linking ---- */

static uint8_t special_kind_of(const struct cell *cell) {
  return object_span((uintptr_t)cell)->kind == KIND_WEAK ? SPECIAL_WEAK : SPECIAL_EPHEMERON;
}

static struct cell_head *head_locked(struct span *span, uintptr_t object, uint8_t kind) {
  struct special *found = special_find_locked(span, object, kind);
  if (found != NULL) return (struct cell_head *)found;
  struct cell_head *head = special_alloc(true);
  if (head == NULL) return NULL;
  *head = (struct cell_head){.special = {.object = object, .kind = kind}};
  if (special_add_locked(span, &head->special) == 0) return head;
  special_free(&head->special);
  return NULL;
}

static void drop_head_locked(struct span *span, struct cell_head *head) {
  special_remove_locked(span, &head->special);
  special_free(&head->special);
}

static void push(struct cell_head *head, struct cell *cell) {
  cell->previous = NULL;
  cell->next = head->first;
  if (head->first != NULL) head->first->previous = cell;
  head->first = cell;
}

static void unlink_cell(struct cell_head *head, struct cell *cell) {
  if (cell->next != NULL) cell->next->previous = cell->previous;
  if (cell->previous != NULL) {
    cell->previous->next = cell->next;
  } else {
    head->first = cell->next;
  }
  cell->next = cell->previous = NULL;
}

/* Any address in an object leads to its first byte. */
static uintptr_t object_of(uintptr_t address) {
  return object_slot_start(address, heap_arena.page_info[arena_page_of(&heap_arena, address)]);
}

static void clear_cell(struct cell *cell) {
  cell->next = cell->previous = NULL;
  atomic_store_release(&cell->value, (void *)NULL);
  atomic_store_release(&cell->target, (uintptr_t)0);
}

/* Whoever frees the target, or gives the cell another, may come first: then there is nothing left to do. */
static void detach(struct cell *cell) {
  for (;;) {
    uintptr_t target = atomic_load_acquire(&cell->target);
    if (target == 0) return;
    struct span *span = object_span(target);
    lock_acquire(special_lock(span));
    bool same = atomic_load_relaxed(&cell->target) == target;
    if (same) {
      struct cell_head *head = (struct cell_head *)special_find_locked(span, object_of(target), special_kind_of(cell));
      ASSERT(head != NULL);
      unlink_cell(head, cell);
      if (head->first == NULL) drop_head_locked(span, head);
      atomic_store_release(&cell->target, (uintptr_t)0);
    }
    lock_release(special_lock(span));
    if (same) return;
  }
}

enum attached { ATTACHED, NO_MEMORY, HAS_TARGET };

static enum attached attach(struct cell *cell, uintptr_t address, uintptr_t object) {
  struct span *span = object_span(object);
  enum attached result = NO_MEMORY;
  uintptr_t none = 0;
  lock_acquire(special_lock(span));
  struct cell_head *head = head_locked(span, object, special_kind_of(cell));
  if (head != NULL) {
    bool is_free = atomic_cas_acq_rel(&cell->target, &none, address);
    result = is_free ? ATTACHED : HAS_TARGET;
    if (is_free) push(head, cell);
    if (head->first == NULL) drop_head_locked(span, head);
  }
  lock_release(special_lock(span));
  return result;
}

/* Memory first: without it the cell keeps what it has. */
static bool reserve(uintptr_t object, uint8_t kind) {
  struct span *span = object_span(object);
  lock_acquire(special_lock(span));
  bool reserved = head_locked(span, object, kind) != NULL;
  lock_release(special_lock(span));
  return reserved;
}

static void unreserve(uintptr_t object, uint8_t kind) {
  struct span *span = object_span(object);
  lock_acquire(special_lock(span));
  struct cell_head *head = (struct cell_head *)special_find_locked(span, object, kind);
  if (head != NULL && head->first == NULL) drop_head_locked(span, head);
  lock_release(special_lock(span));
}

int cell_set(struct cell *cell, uintptr_t address, uintptr_t object) {
  uint8_t kind = special_kind_of(cell);
  if (address != 0 && !reserve(object, kind)) return -ENOMEM;
  enum attached result = HAS_TARGET;
  while (result == HAS_TARGET) {
    detach(cell);
    result = address == 0 ? ATTACHED : attach(cell, address, object);
  }
  if (result == NO_MEMORY) unreserve(object, kind);
  return result == ATTACHED ? 0 : -ENOMEM;
}

static void clear_list(struct cell_head *head) {
  uint64_t count = 0;
  for (struct cell *cell = head->first, *next; cell != NULL; cell = next) {
    next = cell->next;
    clear_cell(cell);
    count++;
  }
  head->first = NULL;
  if (head->special.kind == SPECIAL_EPHEMERON) atomic_add_relaxed(&cell_ephemerons_died, count);
}

void cell_object_freed(uintptr_t object) {
  struct span *span = object_span(object);
  lock_acquire(special_lock(span));
  for (uint8_t kind = SPECIAL_WEAK; kind <= SPECIAL_EPHEMERON; kind++) {
    struct cell_head *head = (struct cell_head *)special_find_locked(span, object, kind);
    if (head == NULL) continue;
    clear_list(head);
    drop_head_locked(span, head);
  }
  lock_release(special_lock(span));
}

void cell_freed(struct cell *cell) { detach(cell); }

/* ---- reading ---- */

static uintptr_t read_words(const struct cell *cell, void **value) {
  void *found = atomic_load_acquire(&cell->value);
  uintptr_t target = atomic_load_acquire(&cell->target);
  if (value != NULL) *value = target != 0 ? found : NULL;
  return target;
}

uintptr_t cell_read_entered(struct mutator *self, const struct cell *cell, void **value) {
  uintptr_t target = read_words(cell, value);
  if (target == 0) return 0;
  if (concurrent_is_marking()) {
    concurrent_mark(self, target);
    if (value != NULL) concurrent_mark(self, (uintptr_t)*value);
  } else if (concurrent_is_settling() && !is_marked(object_of(target))) {
    if (value != NULL) *value = NULL;
    return 0;
  }
  return target;
}

/* Begins as a store does, and answers no handshake until what was loaded is in its registers.  With the flag off no cycle can
 * scan this thread in between, to find the target dead later; and all that the last one has cleared is seen (acquire).  (The
 * flag after the loads would not do: a cycle may end in between.) */
uintptr_t cell_read(const struct cell *cell, void **value) {
  atomic_store_relaxed(midden_barrier_word(), 1u);
  atomic_signal_barrier();
  if (LIKELY(!barrier_marks())) {
    uintptr_t target = read_words(cell, value);
    midden_barrier_end();
    return target;
  }
  midden_barrier_end();
  struct mutator *self = mutator_self();
  mutator_enter(self);
  uintptr_t target = cell_read_entered(self, cell, value);
  mutator_leave(self);
  return target;
}

void cell_set_value(struct cell *cell, void *value) { midden_store(&cell->value, value); }

/* ---- the collector's ---- */

void cell_target_died(struct special *head) { clear_list((struct cell_head *)head); }

static bool holds_cells(const struct span *span) { return kind_is_cell(atomic_load_relaxed(&span->kind)); }

/* Whether a cell with a target died in a slot that is not free.  One of which no object was made yet holds zeros.  Where the program
 * runs that one may be given back meanwhile, and another thread make a cell there: it is marked before it has a target, so the mark
 * is asked for once more behind that.  The span's kind may have been read while it was made; not so behind an allocation bit. */
static bool has_died(const struct span *span, const struct cell *cell) {
  uintptr_t slot = (uintptr_t)cell;
  return !is_marked(slot) && holds_cells(span) && atomic_load_acquire(&cell->target) != 0 && !is_marked(slot);
}

static void drop_dead_of(const struct span *span, void *unused) {
  (void)unused;
  if (!holds_cells(span) || slots_all_marked(span)) return;
  FOR_EACH_BIT (cell, alloc_side(), span->start, span_end(span)) {
    if (has_died(span, (const struct cell *)cell)) detach((struct cell *)cell);
  }
}

void cell_drop_dead_in(size_t chunk) {
  if (atomic_load_relaxed(&heap_arena.chunks[chunk].cell_spans) != 0) slots_visit_spans(chunk, drop_dead_of, NULL);
}

void cell_mark_values(struct midden_tracer *tracer, struct special *special) {
  const struct cell_head *head = (const struct cell_head *)special;
  for (const struct cell *cell = head->first; cell != NULL; cell = cell->next) {
    if (is_marked((uintptr_t)cell)) mark_address(tracer, (uintptr_t)atomic_load_acquire(&cell->value));
  }
}

void cell_visit_stw(const struct special *special, cell_visit_fn *visit, void *argument) {
  const struct cell_head *head = (const struct cell_head *)special;
  for (const struct cell *cell = head->first; cell != NULL; cell = cell->next) visit(argument, cell);
}

static void trace_ephemeron(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *argument) {
  const struct cell *cell = object;
  (void)slot_bytes;
  (void)argument;
  uintptr_t target = atomic_load_acquire(&cell->target);
  if (target != 0 && is_marked(object_of(target))) mark_address(tracer, (uintptr_t)atomic_load_acquire(&cell->value));
}

/* It reads the key's mark besides: see the header. */
void cell_init(void) {
  kind_table[KIND_EPHEMERON].trace = trace_ephemeron;
  kind_table[KIND_EPHEMERON].trace_beside = true;
}

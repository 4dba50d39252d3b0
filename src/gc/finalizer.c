#include "gc/finalizer.h"

#include <errno.h>

#include "mutator/barrier.h"
#include "span/mark_bits.h"
#include "span/object.h"

/* ---- the program's calls ---- */

static int add_locked(struct span *span, const struct call *wanted) {
  struct call *call = special_alloc(false);
  if (call == NULL) return -ENOMEM;
  *call = *wanted;
  int error = special_add_locked(span, &call->many.special);
  if (error != 0) special_free(&call->many.special);
  return error;
}

static void replace_locked(struct span *span, struct call *existing, const struct call *wanted) {
  existing->finalizer = wanted->finalizer;
  existing->argument = wanted->argument;
  existing->many.special.order = wanted->many.special.order;
  existing->many.special.refers = wanted->many.special.refers;
  existing->many.special.named = false;
  if (wanted->many.special.refers) special_note_referring_locked(span->specials);
}

static void remove_locked(struct span *span, struct special *record) {
  special_remove_locked(span, record);
  special_free(record);
}

static int set_locked(struct span *span, struct call *existing, const struct call *wanted) {
  if (wanted->finalizer == NULL) {
    if (existing != NULL) remove_locked(span, &existing->many.special);
    return 0;
  }
  if (existing == NULL) return add_locked(span, wanted);
  replace_locked(span, existing, wanted);
  return 0;
}

int finalizer_set(uintptr_t object, midden_finalizer_fn *function, void *argument, enum midden_finalizer_order order,
                  midden_finalizer_fn **old_function, void **old_argument) {
  struct span *span = object_span(object);
  struct call wanted = {.finalizer = function, .argument = argument};
  wanted.many.special = (struct special){
      .object = object, .kind = SPECIAL_FINALIZER, .order = (uint8_t)order, .refers = calls_may_refer(argument)};
  lock_acquire(special_lock(span));
  struct call *existing = call_from(special_find_locked(span, object, SPECIAL_FINALIZER));
  struct call old = existing != NULL ? *existing : (struct call){0};
  int error = set_locked(span, existing, &wanted);
  lock_release(special_lock(span));
  barrier_note(old.argument, argument);
  if (error == 0 && old_function != NULL) *old_function = old.finalizer;
  if (error == 0 && old_argument != NULL) *old_argument = old.argument;
  return error;
}

void finalizer_object_freed(uintptr_t object) {
  struct span *span = object_span(object);
  lock_acquire(special_lock(span));
  struct special *record = special_find_locked(span, object, SPECIAL_FINALIZER);
  if (record != NULL) remove_locked(span, record);
  while ((record = special_find_locked(span, object, SPECIAL_QUEUED)) != NULL) {
    special_remove_locked(span, record);
    calls_cancel_locked(call_from(record));
  }
  lock_release(special_lock(span));
}

/* ---- the collector's ---- */

static bool is_marked(const struct call *call) {
  return mark_bit_get(&heap_arena, mark_side(), call->many.special.object);
}

/* The stripe: a cycle beside the program settles too.  All of them are QUEUED before the program can take the first from the
 * queue: its finalizer may free the others' objects, or clear their finalizers, and no record may go then that is not in the
 * queue.  For the same reason nobody looks at candidates after this. */
static void make_ready(struct call_list *list) {
  struct lock *held = NULL; /* neighbours have the same one */
  for (struct call *call = list->first; call != NULL; call = call->next) {
    struct lock *stripe = special_lock(object_span(call->many.special.object));
    if (stripe != held) {
      if (held != NULL) lock_release(held);
      lock_acquire(stripe);
      held = stripe;
    }
    special_set_kind(&call->many.special, SPECIAL_QUEUED);
  }
  if (held != NULL) lock_release(held);
  calls_append_all(list);
}

static bool note_finalizer(struct special *record, bool marked, void *argument) {
  (void)marked;
  if (record->kind == SPECIAL_FINALIZER) call_list_append(argument, call_from(record));
  return true;
}

static void note_finalizers(struct special_set *set, void *argument, unsigned marker) {
  (void)marker;
  if (set->counts[SPECIAL_FINALIZER] != 0) special_filter(set, note_finalizer, argument);
}

void finalizer_ready_all_stw(void) {
  struct call_list list = {0};
  special_restart();
  special_visit_share_stw(note_finalizers, &list, 0);
  make_ready(&list);
}

/* Marks what an object refers to; IGNORE_SELF: as if it did not refer to itself.  Marks on their way are settled before
 * and after: none of them must meet the object while it looks marked, and no part of it be scanned later. */
static void mark_references(struct midden_tracer *tracer, const struct call *call) {
  uintptr_t object = call->many.special.object;
  bool hide_self = call->many.special.order == MIDDEN_FINALIZE_IGNORE_SELF;
  if (hide_self) mark_bit_set(&heap_arena, mark_side(), object);
  mark_contents(tracer, object, hide_self);
  mark_settle(tracer);
  if (hide_self) mark_bit_clear(&heap_arena, mark_side(), object);
}

static bool has_grey(const struct midden_tracer *tracer) {
  return tracer->buffer != NULL && tracer->buffer->count != 0;
}

/* True when all is marked that was grey. */
static bool drained(struct finalizer_settling *settling, finalizer_drain_fn *drain) {
  settling->is_draining = !drain(settling->tracer);
  return !settling->is_draining;
}

/* Step 1.  A drain is not free: most objects refer to nothing that is not marked already. */
static bool mark_all_references(struct finalizer_settling *settling, finalizer_drain_fn *drain) {
  for (; settling->current != NULL; settling->current = settling->current->next) {
    struct call *call = settling->current;
    if (!settling->is_draining) {
      if (call->many.special.order == MIDDEN_FINALIZE_UNORDERED || is_marked(call)) continue;
      mark_references(settling->tracer, call);
    }
    if ((settling->is_draining || has_grey(settling->tracer)) && !drained(settling, drain)) return false;
    if (is_marked(call)) settling->in_cycle(&call->many.special);
  }
  return drained(settling, drain);
}

/* Marks the unmarked candidates, of order UNREACHABLE or of the others.  Nothing is scanned meanwhile: none is marked for the sake of
 * another. */
static void take_unmarked(struct finalizer_settling *settling, bool unreachable) {
  struct call_list others = {0};
  for (struct call *call = settling->candidates.first, *next; call != NULL; call = next) {
    next = call->next;
    bool wanted = unreachable == (call->many.special.order == MIDDEN_FINALIZE_UNREACHABLE) && !is_marked(call);
    call_list_append(wanted ? &settling->ready : &others, call);
    if (wanted) mark_address(settling->tracer, call->many.special.object);
  }
  settling->candidates = others;
}

/* Steps 2 and 3.  Marked with all they reach before anybody can take them from the queue. */
static bool settle_unmarked(struct finalizer_settling *settling, finalizer_drain_fn *drain, bool unreachable) {
  if (!settling->is_draining) take_unmarked(settling, unreachable);
  return drained(settling, drain);
}

void finalizer_settle_begin(struct finalizer_settling *settling) {
  settling->step = settling->candidates.first != NULL ? FINALIZER_REFERENCES : FINALIZER_SETTLED;
  settling->current = settling->candidates.first;
  settling->ready = (struct call_list){0};
  settling->is_draining = false;
  if (settling->candidates.first != NULL) mark_settle(settling->tracer);
}

void finalizer_settle_again(struct finalizer_settling *settling) {
  if (settling->step != FINALIZER_REFERENCES) return;
  settling->current = settling->candidates.first;
  settling->is_draining = false;
}

bool finalizer_settle(struct finalizer_settling *settling, finalizer_drain_fn *drain) {
  while (settling->step != FINALIZER_SETTLED) {
    bool done = settling->step == FINALIZER_REFERENCES
                    ? mark_all_references(settling, drain)
                    : settle_unmarked(settling, drain, settling->step == FINALIZER_UNREACHABLE);
    if (!done) return false;
    if (++settling->step == FINALIZER_SETTLED) make_ready(&settling->ready);
  }
  return true;
}

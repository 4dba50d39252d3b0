#include "span/object.h"

#include "span/guard.h"

static bool find(const void *address, struct object *object) {
  uintptr_t value = (uintptr_t)address;
  if (!arena_contains(&heap_arena, value)) return false;
  uint16_t info = atomic_load_relaxed(&heap_arena.page_info[arena_page_of(&heap_arena, value)]);
  if (info == 0) return false;
  uintptr_t start = object_slot_start(value, info);
  uint64_t bits = atomic_load_acquire(mark_word_of(&heap_arena, alloc_side(), start)); /* before the generation */
  if ((bits & mark_mask_of(start)) == 0) return false;
  *object = (struct object){.start = start, .span = object_span(start)};
  return true;
}

/* Outside critical sections the sides may trade roles while one of them is looked at. */
bool object_find(const void *address, struct object *object) {
  for (;;) {
    uint32_t generation = atomic_load_acquire(&span_generation);
    bool found = find(address, object);
    if (LIKELY(atomic_load_relaxed(&span_generation) == generation)) return found;
  }
}

size_t object_usable_bytes(const struct object *object) {
  if (UNLIKELY(guard_active)) return guard_size(object->span, object->start);
  size_t slot_bytes = span_slot_bytes(object->span);
  if (object->span->kind == KIND_TINY) return TINY_BYTES;
  if (object->span->kind != MIDDEN_TYPED) return slot_bytes;
  uintptr_t type = *(const uintptr_t *)(object->start + slot_bytes - sizeof(uintptr_t));
  return slot_bytes - (type & TYPE_ARRAY_TAG ? 2 : 1) * sizeof(uintptr_t);
}

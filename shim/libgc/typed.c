/* Typed objects: GC_make_descriptor turns a bitmap into a descriptor, and the object carries the descriptor.
 *
 * A typed object has one word more than asked for: the last of its slot, which is where the collector finds the
 * descriptor.  The words of an array are followed by three (descriptor, bytes of an element, number of elements), the
 * last of its slot too.  Until they are stored they are 0, which stands for "no pointers": the object is new and empty.
 *
 * What a descriptor says is read beside the program, as conservative objects are.  One that leads to a mark procedure of the program is
 * for kinds of its own, which are called with the world stopped alone.
 *
 * A bitmap of more words than a descriptor holds is kept in memory of its own, for good, and the descriptor names a
 * mark procedure with that memory's address as its environment. */
#include <stdlib.h>
#include <string.h>

#include "shim.h"

#include "gc/gc_typed.h"

/* ---- descriptors ---- */

struct typed_long_bitmap {
  size_t words;   /* of the object */
  GC_word bits[]; /* bit w % GC_WORDSZ of bits[w / GC_WORDSZ]: word w may hold a pointer */
};

enum { TYPED_SHORT_BITS = 8 * sizeof(GC_word) - GC_DS_TAG_BITS };

/* The number of words up to the last pointer. */
static size_t typed_used_words(const GC_word *bitmap, size_t bits) {
  while (bits > 0 && !GC_get_bit(bitmap, bits - 1)) bits--;
  return bits;
}

static bool typed_all_set(const GC_word *bitmap, size_t words) {
  for (size_t w = 0; w < words; w++)
    if (!GC_get_bit(bitmap, w)) return false;
  return true;
}

static GC_descr typed_short(const GC_word *bitmap, size_t words) {
  GC_descr descriptor = GC_DS_BITMAP;
  for (size_t w = 0; w < words; w++)
    if (GC_get_bit(bitmap, w)) descriptor |= (GC_word)1 << (GC_WORDSZ - 1 - w);
  return descriptor;
}

static GC_descr typed_long(const GC_word *bitmap, size_t words) {
  size_t bytes = (words + GC_WORDSZ - 1) / GC_WORDSZ * sizeof(GC_word);
  struct typed_long_bitmap *map = malloc(sizeof(*map) + bytes);
  if (!map) return words * sizeof(GC_word) | GC_DS_LENGTH; /* less exact, but right */
  map->words = words;
  memcpy(map->bits, bitmap, bytes);
  return GC_MAKE_PROC((GC_word)MARK_PROC_LONG_BITMAP, (GC_word)map);
}

GC_descr GC_make_descriptor(const GC_word *bitmap, size_t bits) {
  size_t words = typed_used_words(bitmap, bits);
  if (typed_all_set(bitmap, words)) return words * sizeof(GC_word) | GC_DS_LENGTH;
  return words <= TYPED_SHORT_BITS ? typed_short(bitmap, words) : typed_long(bitmap, words);
}

struct GC_ms_entry *typed_mark_long_bitmap(GC_word *object, struct GC_ms_entry *stack, struct GC_ms_entry *limit,
                                           GC_word env) {
  const struct typed_long_bitmap *map = (const struct typed_long_bitmap *)env;
  for (size_t w = 0; w < map->words; w++)
    if (GC_get_bit(map->bits, w))
      stack = GC_mark_and_push((void *)__atomic_load_n(&object[w], __ATOMIC_RELAXED), stack, limit, NULL);
  return stack;
}

/* ---- objects ---- */

struct typed_array {
  GC_descr descriptor;
  size_t element_bytes;
  size_t count;
};

/* The last `bytes` of an object's slot. */
static void *typed_trailer(void *object, size_t slot_bytes, size_t bytes) {
  return (char *)object + slot_bytes - bytes;
}

void typed_trace(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *unused) {
  (void)unused;
  GC_descr descriptor =
      __atomic_load_n((GC_descr *)typed_trailer(object, slot_bytes, sizeof(GC_descr)), __ATOMIC_RELAXED);
  if (descriptor) mark_by_descriptor(object, descriptor, tracer);
}

void typed_array_trace(void *object, size_t slot_bytes, struct midden_tracer *tracer, void *unused) {
  (void)unused;
  const struct typed_array *array = typed_trailer(object, slot_bytes, sizeof(*array));
  GC_descr descriptor = __atomic_load_n(&array->descriptor, __ATOMIC_ACQUIRE);
  if (!descriptor) return;
  char *element = object;
  for (size_t i = 0; i < array->count; i++, element += array->element_bytes)
    mark_by_descriptor(element, descriptor, tracer);
}

/* What the program's own function returned when memory had run out (GC_set_oom_fn) is passed on as it is: where it is no object, of
 * which the size would be known, it has no place for a trailer. */

void *GC_malloc_explicitly_typed(size_t bytes, GC_descr descriptor) {
  if (bytes > SIZE_MAX - sizeof(GC_descr)) return report_out_of_memory(bytes);
  int kind = mark_may_call(descriptor) ? KIND_TYPED_CALLED : KIND_TYPED;
  void *object = midden_alloc_kind(kinds_to_midden(kind), bytes + sizeof(GC_descr));
  size_t slot_bytes = midden_size(object);
  if (!slot_bytes) return object;
  GC_descr *trailer = typed_trailer(object, slot_bytes, sizeof(GC_descr));
  __atomic_store_n(trailer, descriptor, __ATOMIC_RELEASE);
  return object;
}

void *GC_malloc_explicitly_typed_ignore_off_page(size_t bytes, GC_descr descriptor) {
  return GC_malloc_explicitly_typed(bytes, descriptor);
}

void *GC_calloc_explicitly_typed(size_t count, size_t bytes, GC_descr descriptor) {
  size_t total;
  if (__builtin_mul_overflow(count, bytes, &total) || total > SIZE_MAX - sizeof(struct typed_array))
    return report_out_of_memory(SIZE_MAX);
  int kind = mark_may_call(descriptor) ? KIND_TYPED_ARRAY_CALLED : KIND_TYPED_ARRAY;
  void *object = midden_alloc_kind(kinds_to_midden(kind), total + sizeof(struct typed_array));
  size_t slot_bytes = midden_size(object);
  if (!slot_bytes) return object;
  struct typed_array *array = typed_trailer(object, slot_bytes, sizeof(*array));
  array->element_bytes = bytes;
  array->count = count;
  __atomic_store_n(&array->descriptor, descriptor, __ATOMIC_RELEASE); /* last: it is looked at first */
  return object;
}

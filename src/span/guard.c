#include "span/guard.h"

#include <string.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "span/kind.h"
#include "span/mark_bits.h"

bool guard_active, guard_poison;

/* Above the size, which has 48 bits: no address of the heap looks like it. */
#define GUARD_SIZE_TAG (UINT64_C(0x5afe) << 48)
#define GUARD_SIZE_MASK (UINT64_MAX >> 16)

static size_t trailer_bytes(unsigned kind) { return kind == MIDDEN_TYPED ? 2 * sizeof(uintptr_t) : 0; }

/* A trace function finds what lies at the end of its object by the size, and expects whole words. */
static size_t counted_bytes(unsigned kind, size_t bytes) {
  return kind_table[kind].scan == SCAN_TRACE ? round_up(max_size(bytes, 1), sizeof(uintptr_t)) : max_size(bytes, 1);
}

size_t guard_slot_bytes(unsigned kind, size_t bytes) {
  if (bytes > PTRDIFF_MAX) return SIZE_MAX;
  return counted_bytes(kind, bytes) + GUARD_ZONE_LEAST + sizeof(uint64_t) + trailer_bytes(kind);
}

/* ---- the parts of a slot ---- */

struct parts {
  unsigned char *object, *zone, *zone_end; /* the size word follows */
};

static uint64_t *size_word(const struct span *span, uintptr_t slot) {
  return (uint64_t *)(slot + span_slot_bytes(span) - trailer_bytes(span->kind)) - 1;
}

static struct parts parts_of(const struct span *span, uintptr_t slot) {
  return (struct parts){.object = (unsigned char *)slot,
                        .zone = (unsigned char *)slot + guard_size_sound(span, slot),
                        .zone_end = (unsigned char *)size_word(span, slot)};
}

/* ---- reports ---- */

static unsigned char byte_or_0(const unsigned char *at, const unsigned char *end) { return at < end ? *at : 0; }

static _Noreturn COLD void report(const char *what, const struct span *span, const void *slot, size_t size,
                                  const unsigned char *damage, const unsigned char *end) {
  fatal(
      "%s: %p, size %zu, kind %s: damaged at offset %zu, bytes %02x %02x %02x %02x %02x %02x %02x %02x; "
      "span %p, slots of %zu bytes",
      what, slot, size, kind_table[span->kind].name, (size_t)(damage - (const unsigned char *)slot), *damage,
      byte_or_0(damage + 1, end), byte_or_0(damage + 2, end), byte_or_0(damage + 3, end), byte_or_0(damage + 4, end),
      byte_or_0(damage + 5, end), byte_or_0(damage + 6, end), byte_or_0(damage + 7, end), (void *)span->start,
      span_slot_bytes(span));
}

/* The first byte in [from, end) that differs from `byte`, or NULL.  An array of equal bytes equals itself shifted. */
static const unsigned char *first_other(const unsigned char *from, const unsigned char *end, unsigned char byte) {
  if (from == end || (*from == byte && memcmp(from, from + 1, (size_t)(end - from) - 1) == 0)) return NULL;
  while (*from == byte) from++;
  return from;
}

/* The zone is open. */
static void check_zone(const struct span *span, uintptr_t slot) {
  struct parts parts = parts_of(span, slot);
  const unsigned char *damage = first_other(parts.zone, parts.zone_end, GUARD_ZONE_BYTE);
  if (UNLIKELY(damage != NULL))
    report("written beyond the end of an object", span, parts.object, guard_size(span, slot), damage, parts.zone_end);
}

/* The slot is open. */
static void check_poison(const struct span *span, uintptr_t slot) {
  const unsigned char *start = (const unsigned char *)slot;
  const unsigned char *damage = first_other(start, start + span_slot_bytes(span), POISON_BYTE);
  if (UNLIKELY(damage != NULL))
    report("written to a free slot, after its object was freed or collected", span, start, span_slot_bytes(span),
           damage, start + span_slot_bytes(span));
}

/* A large object's slot is its span, which is free then. */
static bool keeps_poison(const struct span *span) { return guard_poison && span->size_class != 0; }

static void check_free(const struct span *span, uintptr_t slot) {
  if (!keeps_poison(span)) return;
  if (memcheck_active) memcheck_open(slot, span_slot_bytes(span));
  check_poison(span, slot);
  memcheck_hide(slot, span_slot_bytes(span));
}

/* ---- an object's life ---- */

size_t guard_size(const struct span *span, uintptr_t slot) {
  const uint64_t *place = size_word(span, slot);
  uint64_t word = atomic_load_relaxed(place);
  size_t most = (uintptr_t)place - slot - GUARD_ZONE_LEAST;
  bool sound = (word & ~GUARD_SIZE_MASK) == GUARD_SIZE_TAG && (word & GUARD_SIZE_MASK) <= most;
  return sound ? word & GUARD_SIZE_MASK : 0;
}

size_t guard_size_sound(const struct span *span, uintptr_t slot) {
  size_t size = guard_size(span, slot);
  const unsigned char *word = (const unsigned char *)size_word(span, slot);
  if (UNLIKELY(size == 0))
    report("written far beyond the end of an object", span, (void *)slot, size, word, word + sizeof(uint64_t));
  return size;
}

void guard_span_ready(struct span *span) {
  if (!keeps_poison(span)) return;
  if (memcheck_active) memcheck_open(span->start, span_bytes(span));
  memset((void *)span->start, POISON_BYTE, span_bytes(span));
  memcheck_hide(span->start, span_bytes(span));
  span->needs_zero = true;
}

void guard_allocated(const struct span *span, uintptr_t slot, size_t bytes) {
  bool zeroed = kind_table[span->kind].zeroed;
  if (memcheck_active) memcheck_open(slot, span_slot_bytes(span));
  if (keeps_poison(span)) check_poison(span, slot);
  if (zeroed) memset((void *)slot, 0, span_slot_bytes(span));
  atomic_store_relaxed(size_word(span, slot), (uint64_t)counted_bytes(span->kind, bytes) | GUARD_SIZE_TAG);
  struct parts parts = parts_of(span, slot);
  memset(parts.zone, GUARD_ZONE_BYTE, (size_t)(parts.zone_end - parts.zone));
  memcheck_hide((uintptr_t)parts.zone, (size_t)(parts.zone_end - parts.zone));
  if (memcheck_active) memcheck_allocated(slot, (size_t)(parts.zone - parts.object), zeroed);
}

void guard_freed(const struct span *span, uintptr_t slot) {
  if (memcheck_active) memcheck_open(slot, span_slot_bytes(span));
  check_zone(span, slot);
  if (guard_poison) memset((void *)slot, POISON_BYTE, span_slot_bytes(span));
  if (memcheck_active) memcheck_freed(slot, span_slot_bytes(span));
}

/* ---- all slots of a span ---- */

void guard_sweep(const struct span *span) {
  size_t slot_bytes = span_slot_bytes(span);
  for (size_t i = 0; i < span->slot_count; i++) {
    uintptr_t slot = span->start + i * slot_bytes;
    if (mark_bit_get(&heap_arena, alloc_side(), slot)) continue;
    if (mark_bit_get(&heap_arena, mark_side(), slot)) {
      guard_freed(span, slot);
    } else {
      check_free(span, slot);
    }
  }
}

static void verify_object(const struct span *span, uintptr_t slot) {
  struct parts parts = parts_of(span, slot);
  if (memcheck_active) memcheck_open((uintptr_t)parts.zone, (size_t)(parts.zone_end - parts.zone));
  check_zone(span, slot);
  memcheck_hide((uintptr_t)parts.zone, (size_t)(parts.zone_end - parts.zone));
}

void guard_verify_stw(const struct span *span) {
  bool swept = span->sweep_generation == span_generation_now();
  for (size_t i = 0; i < span->slot_count; i++) {
    uintptr_t slot = span->start + i * span_slot_bytes(span);
    if (mark_bit_get(&heap_arena, alloc_side(), slot)) {
      verify_object(span, slot);
    } else if (swept) {
      check_free(span, slot); /* unswept, it may hold an object that died */
    }
  }
}

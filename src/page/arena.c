#include "page/arena.h"

#include <errno.h>

#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "meta/persist.h"
#include "os/os.h"

NOT_A_ROOT struct arena heap_arena;

#define ARENA_ALIGNMENT ((size_t)4 << 20)
#define ARENA_GAP_BYTES ARENA_ALIGNMENT
#define ARENA_MIN_BYTES ((size_t)16 << 20)
#define ARENA_MODEST_BYTES ((size_t)64 << 20)

/* Tables grow in steps of this, to spare system calls; a step of the largest covers 4 MiB of pages. */
#define TABLE_STEP_BYTES ((size_t)64 << 10)

/* Huge pages spare a large heap most of its page faults and most of what a marker waits for (address translation).  The
 * first pages of the arena and of each table stay small: a small program pays for what it touches, no more. */
#define HUGE_HEAP_LEAST_BYTES ((size_t)32 << 20)
#define HUGE_TABLE_LEAST_BYTES ((size_t)1 << 20)

/* Others (of 32 MiB, or 512, where small pages have 16 KiB or 64) are left to the system: of a table a whole one would be held for a
 * fraction of it, and what goes back to the system in part would come back whole. */
size_t arena_huge_page_bytes(void) { return os_huge_page_bytes() == CHUNK_BYTES ? CHUNK_BYTES : 0; }

/* Bytes of a table that describe the first `bytes` of the arena. */
static size_t table_bytes(const struct arena_table *table, size_t bytes) {
  size_t entries = round_up(bytes, (size_t)1 << table->entry_shift) >> table->entry_shift;
  return entries * table->entry_bytes;
}

static size_t table_reserved_bytes(const struct arena *arena, const struct arena_table *table) {
  return round_up(table_bytes(table, arena->end - arena->start), max_size(os_page_bytes(), TABLE_STEP_BYTES));
}

/* What was given back of them counts no more: it is charged again. */
static void recharge_released(const struct arena *arena) {
  size_t count = 0;
  for (size_t i = 0; i < arena_chunk_count(arena); i++) count += arena->chunks[i].tables_released;
  persist_charge(PERSIST_BITS, (ptrdiff_t)(count * arena_chunk_bits_bytes(arena)));
}

static enum persist_purpose table_purpose(const struct arena_table *table) {
  return table->entry_bytes == MARK_BITS_PAGE_BYTES ? PERSIST_BITS : PERSIST_TABLE;
}

static void release_tables(struct arena *arena) {
  if (arena->used != arena->start) recharge_released(arena);
  for (size_t i = 0; i < ARENA_TABLES; i++) {
    struct arena_table *table = &arena->tables[i];
    if (table->base == NULL) continue;
    os_unmap(table->base, table_reserved_bytes(arena, table));
    persist_charge(table_purpose(table), -(ptrdiff_t)table->committed_bytes);
    table->base = NULL;
  }
}

static const struct arena_table shapes[ARENA_TABLES] = {
    [ARENA_SPANS] = {.entry_bytes = sizeof(struct span *), .entry_shift = PAGE_SHIFT},
    [ARENA_PAGE_INFO] = {.entry_bytes = sizeof(uint16_t), .entry_shift = PAGE_SHIFT},
    [ARENA_RESIDENCY] = {.entry_bytes = sizeof(uint8_t), .entry_shift = PAGE_SHIFT},
    [ARENA_CHUNKS] = {.entry_bytes = sizeof(struct arena_chunk), .entry_shift = CHUNK_SHIFT},
    [ARENA_BITS] = {.entry_bytes = MARK_BITS_PAGE_BYTES, .entry_shift = PAGE_SHIFT},
    [ARENA_BITS + 1] = {.entry_bytes = MARK_BITS_PAGE_BYTES, .entry_shift = PAGE_SHIFT},
    [ARENA_BORN_BITS] = {.entry_bytes = MARK_BITS_PAGE_BYTES, .entry_shift = PAGE_SHIFT},
    [ARENA_CARDS] = {.entry_bytes = CARDS_PAGE_BYTES, .entry_shift = PAGE_SHIFT},
};

static bool reserve_table(struct arena *arena, size_t i) {
  struct arena_table *table = &arena->tables[i];
  *table = shapes[i];
  table->base = os_reserve(table_reserved_bytes(arena, table), max_size(os_page_bytes(), arena_huge_page_bytes()));
  return table->base != NULL;
}

static int reserve_tables(struct arena *arena) {
  for (size_t i = 0; i < ARENA_FIRST_OPTIONAL; i++) {
    if (!reserve_table(arena, i)) {
      release_tables(arena);
      return -ENOMEM;
    }
  }
  arena->spans = (struct span **)(void *)arena->tables[ARENA_SPANS].base;
  arena->page_info = (uint16_t *)(void *)arena->tables[ARENA_PAGE_INFO].base;
  arena->residency = (uint8_t *)arena->tables[ARENA_RESIDENCY].base;
  arena->chunks = (struct arena_chunk *)(void *)arena->tables[ARENA_CHUNKS].base;
  arena->mark_bits[0] = (uint64_t *)(void *)arena->tables[ARENA_BITS].base;
  arena->mark_bits[1] = (uint64_t *)(void *)arena->tables[ARENA_BITS + 1].base;
  arena->bit_tables = ARENA_SIDES;
  return 0;
}

/* Gives the arena its range and tables; the range is reserved by the caller. */
static int set_range(struct arena *arena, uintptr_t start, size_t bytes, bool fake) {
  *arena = (struct arena){.start = start, .used = start, .end = start + bytes, .committed = start, .fake = fake};
  arena->limit_bytes = SIZE_MAX;
  return reserve_tables(arena);
}

/* A gap stays in front: the end of whatever is mapped below the arena is an address that programs keep, and must not be
 * taken for the first object. */
static int reserve(struct arena *arena, size_t bytes) {
  char *start = os_reserve(ARENA_GAP_BYTES + bytes, ARENA_ALIGNMENT);
  if (start == NULL) return -ENOMEM;
  int error = set_range(arena, (uintptr_t)start + ARENA_GAP_BYTES, bytes, false);
  if (error != 0) os_unmap(start, ARENA_GAP_BYTES + bytes);
  return error;
}

/* Where the process may not map much (RLIMIT_AS), half of what is left stays with the program's own needs; less where that would
 * be a small heap. */
static size_t reasonable_bytes(size_t bytes) {
  uint64_t left = os_address_space_left_bytes();
  while (bytes > ARENA_MODEST_BYTES && bytes > left / 2) bytes /= 2;
  return max_size(round_down(bytes, ARENA_ALIGNMENT), ARENA_MODEST_BYTES);
}

int arena_init(struct arena *arena, size_t bytes) {
  bytes = reasonable_bytes(bytes);
  while (reserve(arena, bytes) != 0) {
    if (bytes == ARENA_MIN_BYTES) {
      *arena = (struct arena){0};
      return -ENOMEM;
    }
    bytes = max_size(round_down(bytes / 2, ARENA_ALIGNMENT), ARENA_MIN_BYTES);
  }
  return 0;
}

int arena_init_fake(struct arena *arena, uintptr_t start, size_t bytes) {
  CHECK(is_aligned(start, ARENA_ALIGNMENT) && is_aligned(bytes, PAGE_BYTES), "arena: fake range %p is not aligned",
        (void *)start);
  int error = set_range(arena, start, bytes, true);
  if (error != 0) *arena = (struct arena){0};
  return error;
}

void arena_destroy(struct arena *arena) {
  release_tables(arena);
  if (!arena->fake && arena->start != 0)
    os_unmap((void *)(arena->start - ARENA_GAP_BYTES), arena->end - arena->start + ARENA_GAP_BYTES);
  *arena = (struct arena){0};
}

/* The heap is about to reach an address.  Where the system makes huge pages without advice, it is told. */
static void advise_heap(struct arena *arena, uintptr_t end) {
  bool was_large = arena->committed - arena->start > HUGE_HEAP_LEAST_BYTES;
  if (!arena->huge_pages || end - arena->start <= HUGE_HEAP_LEAST_BYTES) return;
  if (!was_large && arena->splits_are_dear != NULL && arena->splits_are_dear()) {
    arena->small_heap = true;
    os_advise_huge((void *)arena->start, arena->end - arena->start, false);
  }
  if (!arena->small_heap) os_advise_huge((void *)arena->committed, end - arena->committed, true);
}

void arena_advise_sparse(const struct arena *arena, uintptr_t start, size_t bytes, bool sparse) {
  if (!arena->huge_pages || arena->fake) return;
  if (sparse || arena_chunk_is_huge(arena, (start - arena->start) >> CHUNK_SHIFT))
    os_advise_huge((void *)start, bytes, !sparse);
}

/* A large table grows by whole huge pages.  One that could be touched in part only would be in small pages at first, and when
 * the system joins those all who touch the table wait, for milliseconds in some virtual machines. */
static size_t table_step_bytes(const struct arena *arena, const struct arena_table *table, size_t need_bytes) {
  size_t huge_bytes = arena_huge_page_bytes();
  bool is_large = arena->huge_pages && need_bytes > HUGE_TABLE_LEAST_BYTES;
  if (is_large && huge_bytes != 0 && round_up(need_bytes, huge_bytes) <= table_reserved_bytes(arena, table))
    return huge_bytes;
  return max_size(os_page_bytes(), TABLE_STEP_BYTES);
}

/* Makes a table touchable for all pages below `end`. */
static int table_commit(const struct arena *arena, struct arena_table *table, uintptr_t end) {
  size_t need_bytes = table_bytes(table, end - arena->start);
  if (need_bytes <= table->committed_bytes) return 0;
  size_t target_bytes = round_up(need_bytes, table_step_bytes(arena, table, need_bytes));
  size_t step_bytes = target_bytes - table->committed_bytes;
  int error = os_commit(table->base + table->committed_bytes, step_bytes);
  if (error != 0) return error;
  if (arena->huge_pages && target_bytes > HUGE_TABLE_LEAST_BYTES)
    os_advise_huge(table->base + table->committed_bytes, step_bytes, true);
  atomic_store_release(&table->committed_bytes, target_bytes); /* pairs with arena_populate_tables */
  persist_charge(table_purpose(table), (ptrdiff_t)step_bytes);
  return 0;
}

/* OS pages may be larger than ours, so that the commitment may run ahead of the frontier. */
static int pages_commit(struct arena *arena, uintptr_t end) {
  if (arena->fake || end <= arena->committed) return 0;
  uintptr_t target = round_up(end, os_page_bytes());
  int error = os_commit((void *)arena->committed, target - arena->committed);
  if (error != 0) return error;
  advise_heap(arena, target);
  memcheck_hide(arena->committed, target - arena->committed);
  arena->committed = target;
  return 0;
}

/* Within the arena. */
int arena_commit_tables_locked(struct arena *arena, size_t bytes) {
  bytes = min_size(bytes, arena->end - arena->used);
  for (size_t i = 0; i < ARENA_TABLES; i++) {
    struct arena_table *table = &arena->tables[i];
    int error = table->base != NULL ? table_commit(arena, table, arena->used + bytes) : 0;
    if (error != 0) return error;
  }
  return 0;
}

bool arena_add_young_tables(struct arena *arena) {
  ASSERT(arena->used == arena->start);
  if (!reserve_table(arena, ARENA_BORN_BITS)) return false;
  if (!reserve_table(arena, ARENA_CARDS)) {
    struct arena_table *born = &arena->tables[ARENA_BORN_BITS];
    os_unmap(born->base, table_reserved_bytes(arena, born));
    born->base = NULL;
    return false;
  }
  arena->mark_bits[ARENA_BORN] = (uint64_t *)(void *)arena->tables[ARENA_BORN_BITS].base;
  arena->cards = (uint8_t *)arena->tables[ARENA_CARDS].base;
  arena->bit_tables = ARENA_BIT_TABLES;
  return true;
}

void arena_populate_tables(const struct arena *arena, uintptr_t start, size_t bytes) {
  for (size_t i = 0; i < ARENA_TABLES; i++) {
    const struct arena_table *table = &arena->tables[i];
    if (table->base == NULL || table_purpose(table) == PERSIST_BITS) continue;
    size_t end =
        min_size(table_bytes(table, start + bytes - arena->start), atomic_load_acquire(&table->committed_bytes));
    size_t from = round_down(min_size(table_bytes(table, start - arena->start), end), os_page_bytes());
    os_populate(table->base + from, end - from);
  }
}

uintptr_t arena_grow_locked(struct arena *arena, size_t bytes) {
  ASSERT(bytes != 0 && is_aligned(bytes, PAGE_BYTES));
  uintptr_t start = arena->used;
  size_t limit_bytes = atomic_load_relaxed(&arena->limit_bytes);
  if (bytes > arena->end - start) return 0;
  if (bytes > limit_bytes || start - arena->start > limit_bytes - bytes) return 0;
  /* What a failed attempt has committed stays committed: the next one needs it again. */
  if (arena_commit_tables_locked(arena, bytes) != 0) return 0;
  if (pages_commit(arena, start + bytes) != 0) return 0;
  atomic_store_release(&arena->used, start + bytes); /* pairs with arena_contains */
  return start;
}

/* Whoever knows of a chunk so far up also knows the answer that was given before the frontier came there. */
bool arena_chunk_is_huge(const struct arena *arena, size_t chunk) {
  if (!arena->huge_pages || chunk << CHUNK_SHIFT < HUGE_HEAP_LEAST_BYTES) return false;
  return arena_huge_page_bytes() != 0 && !arena->small_heap;
}

bool arena_take_emptied(struct arena *arena, size_t chunk) {
  bool *emptied = &arena->chunks[chunk].emptied;
  return atomic_load_relaxed(emptied) && atomic_exchange_acq_rel(emptied, false);
}

/* The first huge page of a table is never one: it is advised from its middle on. */
void arena_mark_bits_unit(const struct arena *arena, size_t chunk, size_t *first, size_t *end) {
  size_t chunk_table_bytes = CHUNK_PAGES * MARK_BITS_PAGE_BYTES, huge_bytes = arena_huge_page_bytes();
  bool is_huge = arena->huge_pages && huge_bytes != 0 && chunk * chunk_table_bytes >= huge_bytes;
  size_t unit_bytes = max_size(chunk_table_bytes, is_huge ? huge_bytes : os_page_bytes());
  size_t unit_chunks = unit_bytes / chunk_table_bytes;
  *first = round_down(chunk, unit_chunks);
  *end = *first + unit_chunks;
}

/* The table entry may be stale, since only the ends of a free span are kept exact: it may name a structure that is dead
 * or describes other pages by now.  Structures are never unmapped, so looking is safe; what it says of its range counts
 * only if it was IN_USE or STACK before and after the range was read, without a step in between (the word counts them: a
 * structure may be freed, merged over the address, split, and be in use again for another).  Each acquire pairs with the release in
 * span_set_state or span_set_range, so that who reads a later range also reads the later state.  While marking no span
 * leaves IN_USE or STACK and the answer is exact; otherwise whoever frees the span at the same time makes it old. */
struct span *arena_span_of(const struct arena *arena, uintptr_t address) {
  if (!arena_contains(arena, address)) return NULL;
  struct span *span = atomic_load_relaxed(&arena->spans[arena_page_of(arena, address)]);
  if (span == NULL) return NULL;
  uint32_t word = span_state_word(span);
  enum span_state state = (enum span_state)(word & SPAN_STATE_MASK);
  if (state != SPAN_IN_USE && state != SPAN_STACK) return NULL;
  uintptr_t offset = address - atomic_load_acquire(&span->start);
  if (offset >= atomic_load_acquire(&span->page_count) << PAGE_SHIFT) return NULL;
  return span_state_word(span) == word ? span : NULL;
}

const struct span *arena_next_in_use_stw(const struct arena *arena, uintptr_t *address) {
  while (*address < arena->used) {
    const struct span *span = arena_span_of(arena, *address);
    *address = span != NULL ? span_end(span) : *address + PAGE_BYTES;
    if (span != NULL && span_state(span) == SPAN_IN_USE) return span;
  }
  return NULL;
}

/* Allocation, resizing and freeing, with good and bad arguments. */
#include <errno.h>
#include <stdint.h>
#include <wchar.h>

#define GC_REQUIRE_WCSDUP
#include "gc_check.h"

static int is_zero(const char *bytes, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (bytes[i] != 0) return 0;
  return 1;
}

typedef void *allocator(size_t bytes);

static void test_sizes(allocator *allocate, int zeroed) {
  static const size_t sizes[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 100, 1000, 4095, 4096, 4097, 9000, 40000, 300000};
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    char *object = allocate(sizes[i]);
    CHECK(object != NULL);
    CHECK(((uintptr_t)object & 7) == 0);
    CHECK(sizes[i] < 16 || ((uintptr_t)object & 15) == 0);
    CHECK(GC_size(object) >= sizes[i]);
    CHECK(GC_base(object) == object);
    CHECK(GC_is_heap_ptr(object));
    if (sizes[i] > 0) CHECK(GC_base(object + sizes[i] - 1) == object);
    if (zeroed) CHECK(is_zero(object, sizes[i]));
    memset(object, 0xa5, sizes[i]);
    GC_free(object);
    object = allocate(sizes[i]);
    if (zeroed) CHECK(is_zero(object, sizes[i]));
    GC_free(object);
  }
}

static void test_foreign_pointers(void) {
  int local;
  static int constant;
  void *from_malloc = malloc(100);
  void *odd[] = {
      NULL, &local, &constant, from_malloc, (void *)1, (void *)-1, (void *)(intptr_t)-4096, (void *)test_sizes};
  for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
    CHECK(GC_base(odd[i]) == NULL);
    CHECK(!GC_is_heap_ptr(odd[i]));
  }
  free(from_malloc);
  GC_free(NULL);
}

static void test_realloc(allocator *allocate) {
  unsigned char *object = allocate(10);
  memcpy(object, "123456789", 10);
  for (size_t bytes = 10; bytes < 2000000; bytes = bytes * 3 / 2) {
    object = GC_realloc(object, bytes);
    CHECK(object != NULL && GC_size(object) >= bytes);
    CHECK(memcmp(object, "123456789", 10) == 0);
  }
  object = GC_realloc(object, 10);
  CHECK(memcmp(object, "123456789", 10) == 0);
  CHECK(GC_realloc(object, 0) == NULL);
  object = GC_realloc(NULL, 20);
  CHECK(object != NULL && GC_size(object) >= 20);
  CHECK(GC_realloc(NULL, 0) != NULL);
}

/* Atomic objects stay atomic: what only they point to dies. */
static NOINLINE void make_atomic_holders(void **holders) {
  for (int i = 0; i < COUNT; i++) {
    void **holder = GC_realloc(GC_malloc_atomic(40), 400);
    void *target = GC_malloc(48);
    *holder = target;
    check_watch(i, target);
    holders[i] = holder;
  }
}

static void test_realloc_keeps_kind(void) {
  void **holders = GC_malloc(COUNT * sizeof(void *));
  make_atomic_holders(holders);
  check_collect();
  CHECK(check_count_dead() > NEARLY_ALL);
  GC_reachable_here(holders);
}

static void *oom_result;
static size_t oom_bytes;

static void *on_oom(size_t bytes) {
  oom_bytes = bytes;
  return oom_result;
}

static void check_huge(allocator *allocate, size_t bytes) {
  oom_bytes = 0;
  CHECK(allocate(bytes) == oom_result);
  CHECK(oom_bytes >= bytes);
}

/* The program's function is asked, and what it returns is returned. */
static void test_huge(size_t bytes) {
  static char reserve[64];
  oom_result = reserve;
  check_huge(GC_malloc, bytes);
  check_huge(GC_malloc_atomic, bytes);
  check_huge(GC_malloc_ignore_off_page, bytes);
  oom_result = NULL;
  check_huge(GC_malloc, bytes);
  check_huge(GC_malloc_atomic, bytes);
  check_huge(GC_malloc_uncollectable, bytes);
  check_huge(GC_malloc_atomic_uncollectable, bytes);
  char *object = GC_malloc(32);
  strcpy(object, "kept");
  CHECK(GC_realloc(object, bytes) == NULL);
  CHECK(strcmp(object, "kept") == 0);
}

static void test_huge_sizes(void) {
  static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2, SIZE_MAX / 2 + 1, (size_t)1 << 60};
  GC_set_warn_proc(GC_ignore_warn_proc);
  GC_oom_func before = GC_get_oom_fn();
  GC_set_oom_fn(on_oom);
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) test_huge(sizes[i]);
  GC_set_oom_fn(before);
  volatile size_t huge = SIZE_MAX / 2;
  CHECK(GC_malloc(huge) == NULL);
  CHECK(GC_malloc(100) != NULL);
}

static void test_aligned(void) {
  for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
    for (size_t bytes = 1; bytes < 20000; bytes = bytes * 5 + 3) {
      char *object = GC_memalign(alignment, bytes);
      CHECK(object != NULL && (uintptr_t)object % alignment == 0);
      memset(object, 1, bytes);
      CHECK(GC_is_heap_ptr(object + bytes - 1));
    }
  }
  void *object = NULL;
  CHECK_EQUAL(GC_posix_memalign(&object, 256, 100), 0);
  CHECK(object != NULL && (uintptr_t)object % 256 == 0);
  CHECK_EQUAL(GC_posix_memalign(&object, 3, 100), EINVAL);
  CHECK_EQUAL(GC_posix_memalign(&object, 4, 100), EINVAL);
}

static void test_strings(void) {
  CHECK(strcmp(GC_strdup("some text"), "some text") == 0);
  CHECK(strcmp(GC_strdup(""), "") == 0);
  CHECK(GC_strdup(NULL) == NULL);
  CHECK(strcmp(GC_strndup("some text", 4), "some") == 0);
  CHECK(strcmp(GC_strndup("some", 400), "some") == 0);
  CHECK(strcmp(GC_strndup("some", 0), "") == 0);
  for (int i = 0; i < COUNT; i++) { /* in slots that hold no zeros */
    char *copy = GC_strndup("some text", 4);
    CHECK(strcmp(copy, "some") == 0);
    memset(copy, 'x', GC_size(copy));
    GC_free(copy);
  }
}

static void test_many(void) {
  for (size_t bytes = 1; bytes < 20000; bytes = bytes * 2 + 1) {
    void *list = GC_malloc_many(bytes);
    int count = 0;
    CHECK(list != NULL);
    while (list) {
      void *next = GC_NEXT(list);
      GC_NEXT(list) = NULL;
      CHECK(GC_base(list) == list && GC_size(list) >= bytes);
      CHECK(is_zero(list, bytes));
      memset(list, 0xff, bytes);
      list = next;
      count++;
    }
    CHECK(count >= 1);
  }
}

/* A list half used is kept by its first element through collections. */
static void test_many_survives(void) {
  void *list = GC_malloc_many(64);
  int before = 0, after = 0;
  for (void *at = list; at; at = GC_NEXT(at)) before++;
  GC_gcollect();
  for (int i = 0; i < 1000; i++) memset(GC_malloc(64), 0xee, 64);
  for (void *at = list; at; at = GC_NEXT(at)) {
    CHECK(is_zero((char *)at + sizeof(void *), 64 - sizeof(void *)));
    after++;
  }
  CHECK_EQUAL(after, before);
}

/* Uncollectable objects live until freed, and what they hold lives with them. */
static NOINLINE GC_word make_uncollectable(void) {
  void **object = GC_malloc_uncollectable(COUNT * sizeof(void *));
  for (int i = 0; i < COUNT; i++) check_watch(i, object[i] = GC_malloc(40));
  return GC_HIDE_POINTER(object);
}

static void test_uncollectable(void) {
  GC_word hidden = make_uncollectable();
  check_collect();
  CHECK_EQUAL(check_count_dead(), 0);
  void **object = GC_REVEAL_POINTER(hidden);
  for (int i = 0; i < COUNT; i++) check_watch(i, object[i]);
  GC_free(object);
  object = NULL;
  check_collect();
  CHECK(check_count_dead() > NEARLY_ALL);
}

static void test_debug_calls(void) {
  char *object = GC_debug_malloc(100, GC_EXTRAS);
  CHECK(object != NULL && is_zero(object, 100));
  object = GC_debug_realloc(object, 5000, GC_EXTRAS);
  CHECK(is_zero(object, 100));
  GC_debug_free(object);
  CHECK(strcmp(GC_debug_strdup("text", GC_EXTRAS), "text") == 0);
  GC_debug_free(GC_debug_malloc_uncollectable(10, GC_EXTRAS));
  GC_debug_free(GC_debug_malloc_atomic(10, GC_EXTRAS));
  GC_debug_free(NULL);
}

static void test_figures(void) {
  size_t total = GC_get_total_bytes();
  for (int i = 0; i < 1000; i++) GC_malloc(1000);
  CHECK(GC_get_total_bytes() >= total + 900000);
  CHECK(GC_get_heap_size() > 0);
  CHECK(GC_get_memory_use() > 0);
  GC_word heap = 1, free_bytes = 1, unmapped = 1, since = 1, all = 1;
  GC_get_heap_usage_safe(&heap, &free_bytes, &unmapped, &since, &all);
  CHECK(heap >= free_bytes && all >= since);
  GC_word ones[] = {1, 1, 1, 1, 1};
  GC_get_heap_usage_safe(&ones[0], &ones[1], &ones[2], &ones[3], &ones[4]);
  for (size_t i = 0; i < sizeof(ones) / sizeof(ones[0]); i++) CHECK(ones[i] != 1); /* whole granules, or none */
  GC_get_heap_usage_safe(NULL, NULL, NULL, NULL, NULL);
  struct {
    struct GC_prof_stats_s stats;
    GC_word beyond[4];
  } room;
  CHECK_EQUAL(GC_get_prof_stats(&room.stats, sizeof(room)), sizeof(room.stats));
  CHECK(room.beyond[0] == ~(GC_word)0 && room.beyond[3] == ~(GC_word)0);
  CHECK(room.stats.heapsize_full >= room.stats.free_bytes_full);
  room.stats.unmapped_bytes = 77;
  CHECK_EQUAL(GC_get_prof_stats(&room.stats, 2 * sizeof(GC_word)), 2 * sizeof(GC_word));
  CHECK_EQUAL(room.stats.unmapped_bytes, 77);
  CHECK(GC_get_size_map_at(100) >= 100 && GC_get_size_map_at(100) < 200);
  CHECK(GC_get_size_map_at(-1) == (size_t)-1 && GC_get_size_map_at(1 << 20) == (size_t)-1);
}

int main(void) {
  /* No GC_INIT: the first call starts the collector. */
  test_sizes(GC_malloc, 1);
  GC_INIT();
  test_sizes(GC_malloc_atomic, 0);
  test_sizes(GC_malloc_uncollectable, 1);
  test_sizes(GC_malloc_atomic_uncollectable, 0);
  test_sizes(GC_malloc_ignore_off_page, 1);
  test_sizes(GC_malloc_atomic_ignore_off_page, 0);
  test_foreign_pointers();
  test_realloc(GC_malloc);
  test_realloc(GC_malloc_atomic);
  test_realloc(GC_malloc_uncollectable);
  test_realloc_keeps_kind();
  test_huge_sizes();
  test_aligned();
  test_strings();
  test_many();
  test_many_survives();
  test_uncollectable();
  test_debug_calls();
  test_figures();
  return 0;
}

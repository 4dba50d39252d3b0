/* Allocation, reallocation and freeing of objects of the kinds that every program has.
 *
 * GC_malloc and GC_malloc_atomic are each one jump into midden: nothing may be added before it. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "shim.h"

void *GC_malloc(size_t bytes) { return midden_alloc(bytes); }
void *GC_malloc_atomic(size_t bytes) { return midden_alloc_kind(MIDDEN_RAW, bytes); }
void *GC_malloc_uncollectable(size_t bytes) { return midden_alloc_root(bytes); }
void *GC_malloc_atomic_uncollectable(size_t bytes) { return midden_alloc_kind(MIDDEN_ROOT_DATA, bytes); }
void *GC_malloc_ignore_off_page(size_t bytes) { return midden_alloc(bytes); }
void *GC_malloc_atomic_ignore_off_page(size_t bytes) { return midden_alloc_kind(MIDDEN_RAW, bytes); }
void *GC_malloc_stubborn(size_t bytes) { return midden_alloc(bytes); }

void *GC_realloc(void *object, size_t bytes) { return midden_realloc(object, bytes); }

void GC_free(void *object) { midden_free(object); }

/* ---- aligned ---- */

/* The least power of two from `alignment` on, or 0 where there is none. */
static size_t alloc_power_of_two(size_t alignment) {
  size_t power = 1;
  while (power && power < alignment) power <<= 1;
  return power;
}

void *GC_memalign(size_t alignment, size_t bytes) {
  size_t power = alloc_power_of_two(alignment);
  if (power == 0) return report_out_of_memory(bytes);
  return midden_alloc_aligned(MIDDEN_CONSERVATIVE, power, bytes);
}

int GC_posix_memalign(void **result, size_t alignment, size_t bytes) {
  if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) return EINVAL;
  void *object = GC_memalign(alignment, bytes);
  if (!object) return ENOMEM;
  *result = object;
  return 0;
}

static size_t alloc_os_page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

void *GC_valloc(size_t bytes) { return GC_memalign(alloc_os_page_bytes(), bytes); }

void *GC_pvalloc(size_t bytes) {
  size_t page = alloc_os_page_bytes();
  if (bytes > SIZE_MAX - (page - 1)) return report_out_of_memory(bytes);
  return GC_memalign(page, (bytes + page - 1) & ~(page - 1));
}

/* ---- copies of strings ---- */

static void *alloc_copy(const void *from, size_t bytes, size_t capacity) {
  char *copy = midden_alloc_kind(MIDDEN_RAW, capacity);
  if (!copy) {
    errno = ENOMEM;
    return NULL;
  }
  memcpy(copy, from, bytes);
  return copy;
}

char *GC_strdup(const char *string) {
  if (!string) return NULL;
  size_t bytes = strlen(string) + 1;
  return alloc_copy(string, bytes, bytes);
}

char *GC_strndup(const char *string, size_t limit) {
  size_t length = strnlen(string, limit);
  char *copy = alloc_copy(string, length, length + 1);
  if (copy) copy[length] = '\0';
  return copy;
}

wchar_t *GC_wcsdup(const wchar_t *string) {
  size_t bytes = (wcslen(string) + 1) * sizeof(wchar_t);
  return alloc_copy(string, bytes, bytes);
}

/* ---- stores ---- */

/* midden needs no notes of stores: it stops the world to mark, or sees them by itself. */
void GC_change_stubborn(const void *object) { (void)object; }
void GC_end_stubborn_change(const void *object) { (void)object; }
void GC_ptr_store_and_dirty(void *slot, const void *value) { *(const void **)slot = value; }

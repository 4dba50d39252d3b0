#include "base/memcheck.h"

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif

bool memcheck_active, memcheck_on_valgrind;

/* ---- sanitizers: NULL unless the program brings their run-time library ---- */

#define WEAK __attribute__((weak, visibility("default")))
WEAK void __asan_poison_memory_region(const volatile void *start, size_t bytes);
WEAK void __asan_unpoison_memory_region(const volatile void *start, size_t bytes);
WEAK void __msan_allocated_memory(const volatile void *start, size_t bytes);
WEAK void __msan_unpoison(const volatile void *start, size_t bytes);
WEAK void __msan_poison(const volatile void *start, size_t bytes);

static bool has_asan, has_msan;

static void find_sanitizers(void) {
  has_asan = __asan_poison_memory_region != NULL && __asan_unpoison_memory_region != NULL;
  has_msan = __msan_allocated_memory != NULL && __msan_unpoison != NULL && __msan_poison != NULL;
}

/* ---- Valgrind ---- */

#ifdef VALGRIND_MAKE_MEM_DEFINED

/* Other tools of Valgrind's do not know the request, and answer as no tool does. */
static bool find_memcheck(void) {
  char byte = 0;
  return VALGRIND_MAKE_MEM_DEFINED(&byte, sizeof byte) != 0;
}

static void valgrind_hide(void *start, size_t bytes) { VALGRIND_MAKE_MEM_NOACCESS(start, bytes); }
static void valgrind_open(void *start, size_t bytes) { VALGRIND_MAKE_MEM_DEFINED(start, bytes); }
static void valgrind_freed(void *start) { VALGRIND_FREELIKE_BLOCK(start, 0); }
static void valgrind_quiet(bool quiet) {
  if (quiet) {
    VALGRIND_DISABLE_ERROR_REPORTING;
  } else {
    VALGRIND_ENABLE_ERROR_REPORTING;
  }
}
static void valgrind_allocated(void *start, size_t bytes, bool defined) {
  VALGRIND_MALLOCLIKE_BLOCK(start, bytes, 0, defined);
}
static unsigned valgrind_stack_begin(void *low, void *high) { return VALGRIND_STACK_REGISTER(low, high); }
static void valgrind_stack_end(unsigned number) { VALGRIND_STACK_DEREGISTER(number); }

#else

static bool find_memcheck(void) { return false; }
static unsigned valgrind_stack_begin(void *low, void *high) { return (void)low, (void)high, 0; }
static void valgrind_stack_end(unsigned number) { (void)number; }
static void valgrind_hide(void *start, size_t bytes) { (void)start, (void)bytes; }
static void valgrind_open(void *start, size_t bytes) { (void)start, (void)bytes; }
static void valgrind_freed(void *start) { (void)start; }
static void valgrind_quiet(bool quiet) { (void)quiet; }
static void valgrind_allocated(void *start, size_t bytes, bool defined) { (void)start, (void)bytes, (void)defined; }

#endif

/* ---- what the heap says ---- */

void memcheck_init(bool tell) {
  find_sanitizers();
  memcheck_on_valgrind = find_memcheck();
  memcheck_active = tell && (has_asan || has_msan || memcheck_on_valgrind);
}

void memcheck_hide_slow(uintptr_t start, size_t bytes) {
  if (has_asan) __asan_poison_memory_region((void *)start, bytes);
  if (has_msan) __msan_poison((void *)start, bytes);
  if (memcheck_on_valgrind) valgrind_hide((void *)start, bytes);
}

void memcheck_open(uintptr_t start, size_t bytes) {
  if (has_asan) __asan_unpoison_memory_region((void *)start, bytes);
  if (has_msan) __msan_unpoison((void *)start, bytes);
  if (memcheck_on_valgrind) valgrind_open((void *)start, bytes);
}

void memcheck_allocated(uintptr_t start, size_t bytes, bool defined) {
  if (has_asan) __asan_unpoison_memory_region((void *)start, bytes);
  if (has_msan && defined) __msan_unpoison((void *)start, bytes);
  if (has_msan && !defined) __msan_allocated_memory((void *)start, bytes);
  if (memcheck_on_valgrind) valgrind_allocated((void *)start, bytes, defined);
}

void memcheck_freed(uintptr_t start, size_t slot_bytes) {
  if (memcheck_on_valgrind) valgrind_freed((void *)start);
  memcheck_hide_slow(start, slot_bytes);
}

unsigned memcheck_stack_begin(uintptr_t low, uintptr_t high) {
  return memcheck_on_valgrind ? valgrind_stack_begin((void *)low, (void *)high) : 0;
}

void memcheck_stack_end(unsigned number) {
  if (memcheck_on_valgrind) valgrind_stack_end(number);
}

void memcheck_quiet_begin(void) {
  if (UNLIKELY(memcheck_on_valgrind)) valgrind_quiet(true);
}

void memcheck_quiet_end(void) {
  if (UNLIKELY(memcheck_on_valgrind)) valgrind_quiet(false);
}

uintptr_t memcheck_launder(uintptr_t word) {
  uintptr_t copy = word;
  valgrind_open(&copy, sizeof copy);
  return copy;
}

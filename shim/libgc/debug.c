/* The debugging allocators: the same objects as from the plain ones.
 *
 * libgc puts a header with the place of allocation in front of each; midden finds overwritten and doubly freed objects
 * by its own checks (MIDDEN_DEBUG), so the place is not kept, and debug and plain calls may be mixed on one object. */
#include "shim.h"

size_t GC_get_debug_header_size(void) { return 0; }
const size_t GC_debug_header_size = 0;

#define DEBUG_UNUSED ((void)s, (void)i)

void *GC_debug_malloc(size_t bytes, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_malloc(bytes);
}

void *GC_debug_malloc_atomic(size_t bytes, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_malloc_atomic(bytes);
}

void *GC_debug_malloc_uncollectable(size_t bytes, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_malloc_uncollectable(bytes);
}

void *GC_debug_malloc_atomic_uncollectable(size_t bytes, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_malloc_atomic_uncollectable(bytes);
}

void *GC_debug_malloc_ignore_off_page(size_t bytes, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_malloc(bytes);
}

void *GC_debug_malloc_atomic_ignore_off_page(size_t bytes, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_malloc_atomic(bytes);
}

void *GC_debug_malloc_stubborn(size_t bytes, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_malloc(bytes);
}

void *GC_debug_generic_or_special_malloc(size_t bytes, int kind, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_malloc_kind(bytes, kind);
}

char *GC_debug_strdup(const char *string, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_strdup(string);
}

char *GC_debug_strndup(const char *string, size_t limit, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_strndup(string, limit);
}

wchar_t *GC_debug_wcsdup(const wchar_t *string, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_wcsdup(string);
}

void *GC_debug_realloc(void *object, size_t bytes, GC_EXTRA_PARAMS) {
  DEBUG_UNUSED;
  return GC_realloc(object, bytes);
}

void *GC_debug_malloc_replacement(size_t bytes) { return GC_malloc(bytes); }
void *GC_debug_realloc_replacement(void *object, size_t bytes) { return GC_realloc(object, bytes); }
void GC_debug_free(void *object) { GC_free(object); }

void GC_debug_change_stubborn(const void *object) { GC_change_stubborn(object); }
void GC_debug_end_stubborn_change(const void *object) { GC_end_stubborn_change(object); }
void GC_debug_ptr_store_and_dirty(void *slot, const void *value) { GC_ptr_store_and_dirty(slot, value); }
void GC_debug_register_displacement(size_t offset) { GC_register_displacement(offset); }

void GC_debug_register_finalizer(void *object, GC_finalization_proc function, void *argument,
                                 GC_finalization_proc *old_function, void **old_argument) {
  GC_register_finalizer(object, function, argument, old_function, old_argument);
}

void GC_debug_register_finalizer_ignore_self(void *object, GC_finalization_proc function, void *argument,
                                             GC_finalization_proc *old_function, void **old_argument) {
  GC_register_finalizer_ignore_self(object, function, argument, old_function, old_argument);
}

void GC_debug_register_finalizer_no_order(void *object, GC_finalization_proc function, void *argument,
                                          GC_finalization_proc *old_function, void **old_argument) {
  GC_register_finalizer_no_order(object, function, argument, old_function, old_argument);
}

void GC_debug_register_finalizer_unreachable(void *object, GC_finalization_proc function, void *argument,
                                             GC_finalization_proc *old_function, void **old_argument) {
  GC_register_finalizer_unreachable(object, function, argument, old_function, old_argument);
}

/* ---- odds and ends that debuggers and old programs ask for ---- */

void *GC_clear_stack(void *value) { return value; }

void GC_noop1(GC_word value) { __asm__ volatile("" : : "r"(value) : "memory"); }

void GC_register_describe_type_fn(int kind, GC_describe_type_fn function) {
  (void)kind;
  (void)function; /* midden's messages name an object's kind, not its contents */
}

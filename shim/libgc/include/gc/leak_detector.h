/* Puts the collector in the place of malloc and its kin for the file that includes this. */
#ifndef GC_LEAK_DETECTOR_H
#define GC_LEAK_DETECTOR_H

#ifndef GC_DEBUG
#define GC_DEBUG
#endif
#include "gc.h"

#ifndef GC_DONT_INCLUDE_STDLIB
#include <stdlib.h>
#include <string.h>
#endif

#undef malloc
#undef calloc
#undef free
#undef realloc
#undef strdup
#undef strndup
#undef memalign
#undef posix_memalign
#define malloc(bytes) GC_MALLOC(bytes)
#define calloc(count, bytes) GC_MALLOC((count) * (bytes))
#define free(object) GC_FREE(object)
#define realloc(object, bytes) GC_REALLOC(object, bytes)
#define strdup(string) GC_STRDUP(string)
#define strndup(string, limit) GC_STRNDUP(string, limit)
#define memalign(alignment, bytes) GC_memalign(alignment, bytes)
#define posix_memalign(result, alignment, bytes) GC_posix_memalign(result, alignment, bytes)
#ifdef GC_REQUIRE_WCSDUP
#undef wcsdup
#define wcsdup(string) GC_WCSDUP(string)
#endif

#ifndef CHECK_LEAKS
#define CHECK_LEAKS() GC_gcollect()
#endif

#endif

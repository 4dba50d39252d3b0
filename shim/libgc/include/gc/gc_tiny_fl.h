/* The granule: the unit in which the inline allocator of gc_inline.h counts sizes, and how many free lists it keeps. */
#ifndef GC_TINY_FL_H
#define GC_TINY_FL_H

#ifndef GC_GRANULE_BYTES
#define GC_GRANULE_WORDS 2
#define GC_GRANULE_BYTES (GC_GRANULE_WORDS * sizeof(void *))
#endif

#define GC_WORDS_TO_GRANULES(words) ((words) / GC_GRANULE_WORDS)

/* A thread's array of free lists has this many entries; entry g holds objects of g granules. */
#ifndef GC_TINY_FREELISTS
#define GC_TINY_FREELISTS 25
#endif

#define GC_RAW_BYTES_FROM_INDEX(granules) ((granules)*GC_GRANULE_BYTES)

#endif

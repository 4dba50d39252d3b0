/* What the other libgc headers need from the compiler and from the program's build flags.
 *
 * A program asks for the thread interface with GC_THREADS (or one of the old names that imply it).  GC_BUILD is for the
 * library itself. */
#ifndef GC_CONFIG_MACROS_H
#define GC_CONFIG_MACROS_H

#include <features.h>
#include <stddef.h>

#if defined(__GNUC__) && defined(__GNUC_MINOR__)
#define GC_GNUC_PREREQ(major, minor) ((__GNUC__ << 16) + __GNUC_MINOR__ >= ((major) << 16) + (minor))
#else
#define GC_GNUC_PREREQ(major, minor) 0
#endif

/* ---- threads ---- */

#if (defined(GC_LINUX_THREADS) || defined(LINUX_THREADS)) && !defined(GC_THREADS)
#define GC_THREADS
#endif

#ifdef GC_THREADS
#ifndef GC_LINUX_THREADS
#define GC_LINUX_THREADS
#endif
#define GC_PTHREADS
#ifndef _REENTRANT
#define _REENTRANT 1
#endif
#define GC_HAVE_PTHREAD_EXIT
#define GC_PTHREAD_EXIT_ATTRIBUTE __attribute__((__noreturn__))
#endif

/* ---- linkage ---- */

#ifndef GC_API
#define GC_API extern __attribute__((__visibility__("default")))
#endif
#ifndef GC_CALL
#define GC_CALL
#endif
#ifndef GC_CALLBACK
#define GC_CALLBACK GC_CALL
#endif

/* ---- attributes ---- */

#ifndef GC_ATTR_MALLOC
#ifdef GC_OOM_FUNC_RETURNS_ALIAS
#define GC_ATTR_MALLOC
#else
#define GC_ATTR_MALLOC __attribute__((__malloc__))
#endif
#endif
#ifndef GC_ATTR_ALLOC_SIZE
#define GC_ATTR_ALLOC_SIZE(argument) __attribute__((__alloc_size__(argument)))
#endif
#ifndef GC_ATTR_CALLOC_SIZE
#define GC_ATTR_CALLOC_SIZE(count, size) __attribute__((__alloc_size__(count, size)))
#endif
#ifndef GC_ATTR_NONNULL
#define GC_ATTR_NONNULL(argument) __attribute__((__nonnull__(argument)))
#endif
#ifndef GC_ATTR_CONST
#define GC_ATTR_CONST __attribute__((__const__))
#endif
#ifdef GC_BUILD
#undef GC_ATTR_DEPRECATED
#define GC_ATTR_DEPRECATED
#elif !defined(GC_ATTR_DEPRECATED)
#define GC_ATTR_DEPRECATED __attribute__((__deprecated__))
#endif

/* ---- C++ ---- */

#ifdef __cplusplus
#if __cplusplus >= 201103L
#define GC_NOEXCEPT noexcept
#define GC_ATTR_EXPLICIT explicit
#else
#define GC_NOEXCEPT throw()
#define GC_ATTR_EXPLICIT
#endif
#if !defined(GC_NEW_ABORTS_ON_OOM) && !defined(__cpp_exceptions) && !defined(__EXCEPTIONS)
#define GC_NEW_ABORTS_ON_OOM
#endif
#endif

#endif

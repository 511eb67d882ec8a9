/*
 * A disk that forgets: loaded before the C library, it copies a journal to another folder when the journal is synced. The copy is what a
 * loss of power would leave for certain. A file named `named` says that the journal's folder was synced, too, so that the journal has its
 * name.
 *
 *     DURABLE=folder LD_PRELOAD=forget.so program
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static int is_journal(const char *path) {
    const char *name = strrchr(path, '/');
    return name && strcmp(name, "/journal.jsonl") == 0;
}

/* What the file has now, up to this length. */
static void copy(int from, const char *to, off_t length) {
    char bytes[65536];
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (off_t at = 0; out >= 0 && at < length;) {
        size_t most = length - at < (off_t) sizeof bytes ? (size_t) (length - at) : sizeof bytes;
        ssize_t got = pread(from, bytes, most, at);
        if (got <= 0 || write(out, bytes, got) != got)
            abort();
        at += got;
    }
    if (out < 0 || close(out) != 0)
        abort();
}

static int sync_by(const char *call, int fd) {
    int (*real)(int) = (int (*)(int)) dlsym(RTLD_NEXT, call);
    const char *durable = getenv("DURABLE");
    char link[64], path[4096] = "", made[4200], kept[4200];
    struct stat is;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (!durable || readlink(link, path, sizeof path - 1) < 0 || fstat(fd, &is) != 0)
        return real(fd);
    if (S_ISDIR(is.st_mode)) {
        int ended = real(fd);
        snprintf(made, sizeof made, "%s/named", durable);
        if (ended == 0)
            close(open(made, O_WRONLY | O_CREAT, 0600));
        return ended;
    }
    if (!is_journal(path))
        return real(fd);
    snprintf(made, sizeof made, "%s/copy", durable);
    snprintf(kept, sizeof kept, "%s/journal.jsonl", durable);
    pthread_mutex_lock(&one_at_a_time);
    fstat(fd, &is); /* what comes during the sync may be lost */
    int from = open(link, O_RDONLY);
    copy(from, made, is.st_size);
    close(from);
    int ended = real(fd);
    if (ended == 0 && rename(made, kept) != 0)
        abort();
    pthread_mutex_unlock(&one_at_a_time);
    return ended;
}

int fsync(int fd) { return sync_by("fsync", fd); }

int fdatasync(int fd) { return sync_by("fdatasync", fd); }

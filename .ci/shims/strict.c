/* Linked with a test: makes wine as strict with files as Windows is.
 *
 * 1. Only a handle with FILE_WRITE_DATA may set the length of its file; one that may only append has none.
 * 2. What one handle has locked, no other can read. In wine locks are advice.
 *
 * When the program starts, its own table of imports gets these functions in place of Windows' own. */
#include <windows.h>
#include <winternl.h>

/* Windows' own. The shim cannot call them by name: its calls go by the same table. */
#define OWN(name) static __typeof__(&name) own_##name;
OWN(SetFileInformationByHandle) OWN(LockFileEx) OWN(DuplicateHandle) OWN(CloseHandle) OWN(ReadFile)
typedef NTSTATUS(NTAPI *Read)(HANDLE, HANDLE, PIO_APC_ROUTINE, PVOID, PIO_STATUS_BLOCK, PVOID, ULONG, PLARGE_INTEGER, PULONG);
static Read own_NtReadFile;

/* Handles through which a lock was taken, and their duplicates. */
static CRITICAL_SECTION lock;
static HANDLE holders[1024];

static int swap(HANDLE from, HANDLE to) {
    int is_there = 0;
    EnterCriticalSection(&lock);
    for (size_t i = 0; i < sizeof holders / sizeof *holders && !is_there; i++)
        if (holders[i] == from) { holders[i] = to; is_there = 1; }
    LeaveCriticalSection(&lock);
    return is_there;
}
static int holds(HANDLE file) { return swap(file, file); }
static void hold(HANDLE file) { if (!holds(file)) swap(0, file); }

static BOOL WINAPI set_file_information(HANDLE file, FILE_INFO_BY_HANDLE_CLASS what, LPVOID info, DWORD size) {
    struct { ULONG attributes; ACCESS_MASK access; ULONG rest[12]; } basic;
    if (what == FileEndOfFileInfo && NtQueryObject(file, 0 /* its access */, &basic, sizeof basic, NULL) == 0
        && !(basic.access & FILE_WRITE_DATA)) {
        SetLastError(ERROR_ACCESS_DENIED);
        return FALSE;
    }
    return own_SetFileInformationByHandle(file, what, info, size);
}

static BOOL WINAPI lock_file(HANDLE file, DWORD flags, DWORD zero, DWORD low, DWORD high, LPOVERLAPPED at) {
    BOOL is_locked = own_LockFileEx(file, flags, zero, low, high, at);
    if (is_locked) hold(file);
    return is_locked;
}
static BOOL WINAPI duplicate(HANDLE of, HANDLE file, HANDLE to, LPHANDLE copy, DWORD access, BOOL inherit, DWORD options) {
    BOOL is_made = own_DuplicateHandle(of, file, to, copy, access, inherit, options);
    if (is_made && holds(file)) hold(*copy);
    return is_made;
}
static BOOL WINAPI close(HANDLE file) {
    swap(file, 0);
    return own_CloseHandle(file);
}

/* Whether a lock of another handle is in the way: then a lock that this one tries for cannot be had. */
static int is_locked(HANDLE file) {
    OVERLAPPED start = {0};
    if (GetFileType(file) != FILE_TYPE_DISK || holds(file)) return 0;
    if (!own_LockFileEx(file, LOCKFILE_FAIL_IMMEDIATELY, 0, MAXDWORD, MAXDWORD, &start))
        return GetLastError() == ERROR_LOCK_VIOLATION;
    UnlockFile(file, 0, 0, MAXDWORD, MAXDWORD);
    return 0;
}
static BOOL WINAPI read_file(HANDLE file, LPVOID bytes, DWORD size, LPDWORD count, LPOVERLAPPED at) {
    if (!is_locked(file)) return own_ReadFile(file, bytes, size, count, at);
    SetLastError(ERROR_LOCK_VIOLATION);
    return FALSE;
}

static NTSTATUS NTAPI nt_read_file(HANDLE file, HANDLE event, PIO_APC_ROUTINE routine, PVOID context, PIO_STATUS_BLOCK ended,
                                   PVOID bytes, ULONG size, PLARGE_INTEGER at, PULONG key) {
    if (!is_locked(file)) return own_NtReadFile(file, event, routine, context, ended, bytes, size, at, key);
    ended->Information = 0;
    return ended->Status = (NTSTATUS) 0xC0000054;  /* STATUS_FILE_LOCK_CONFLICT */
}

static const struct { const char *library, *name; void *instead, **own; } CHANGED[] = {
    {"kernel32", "SetFileInformationByHandle", set_file_information, (void **) &own_SetFileInformationByHandle},
    {"kernel32", "LockFileEx", lock_file, (void **) &own_LockFileEx},
    {"kernel32", "DuplicateHandle", duplicate, (void **) &own_DuplicateHandle},
    {"kernel32", "CloseHandle", close, (void **) &own_CloseHandle},
    {"kernel32", "ReadFile", read_file, (void **) &own_ReadFile},
    {"ntdll", "NtReadFile", nt_read_file, (void **) &own_NtReadFile},
};
static const size_t COUNT = sizeof CHANGED / sizeof *CHANGED;

/* No strcmp: where the shim is linked, no library of C follows. */
static int same(const char *one, const char *other) {
    for (; *one && *one == *other; one++) other++;
    return *one == *other;
}

static void change(char *image, IMAGE_THUNK_DATA *name, IMAGE_THUNK_DATA *function) {
    DWORD before;
    for (; name->u1.AddressOfData; name++, function++) {
        if (IMAGE_SNAP_BY_ORDINAL(name->u1.Ordinal)) continue;
        const char *text = ((IMAGE_IMPORT_BY_NAME *) (image + name->u1.AddressOfData))->Name;
        for (size_t i = 0; i < COUNT; i++) {
            if (!same(text, CHANGED[i].name)) continue;
            VirtualProtect(function, sizeof *function, PAGE_READWRITE, &before);
            function->u1.Function = (ULONGLONG) CHANGED[i].instead;
            VirtualProtect(function, sizeof *function, before, &before);
        }
    }
}

__attribute__((constructor)) static void begin(void) {
    char *image = (char *) GetModuleHandleA(NULL);
    IMAGE_NT_HEADERS *header = (IMAGE_NT_HEADERS *) (image + ((IMAGE_DOS_HEADER *) image)->e_lfanew);
    IMAGE_DATA_DIRECTORY imports = header->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IMPORT];
    IMAGE_IMPORT_DESCRIPTOR *library = (IMAGE_IMPORT_DESCRIPTOR *) (image + imports.VirtualAddress);
    InitializeCriticalSection(&lock);
    for (size_t i = 0; i < COUNT; i++)
        *CHANGED[i].own = (void *) GetProcAddress(GetModuleHandleA(CHANGED[i].library), CHANGED[i].name);
    for (; library->Name; library++)
        change(image, (IMAGE_THUNK_DATA *) (image + library->OriginalFirstThunk),
               (IMAGE_THUNK_DATA *) (image + library->FirstThunk));
}

/* A boot program for UEFI, as small as an installer can be: from a disc that is only read it copies the disc's boot
   image to the first empty disk and restarts; if a disk has it already, the firmware goes on with that; from there it
   says so and turns the machine off. */

typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;
typedef struct { u32 a; u16 b, c; u8 d[8]; } Guid;

typedef struct Text { void *reset; u64 (*write)(struct Text *, const u16 *); } Text;
typedef struct { u32 id; u8 removable, present, logical, read_only, caching; u32 block; u32 align; u64 last; } Media;
typedef struct Disk {
    u64 revision; Media *media; void *reset;
    u64 (*read)(struct Disk *, u32, u64, u64, void *);
    u64 (*write)(struct Disk *, u32, u64, u64, const void *);
    u64 (*flush)(struct Disk *);
} Disk;
typedef struct { u32 revision; void *parent, *system, *device; } Image;
typedef struct {
    u8 head[24]; void *first[16];               /* up to HandleProtocol, the seventeenth */
    u64 (*protocol)(void *, Guid *, void **);
    void *next[19];                             /* up to LocateHandleBuffer */
    u64 (*handles)(u32, Guid *, void *, u64 *, void ***);
} Boot;
typedef struct { u8 head[24]; void *first[10]; void (*reset)(u32, u64, u64, void *); } Runtime;
typedef struct {
    u8 head[24]; u16 *vendor; u32 revision; void *in_handle, *in, *out_handle; Text *out; void *error_handle, *error;
    Runtime *runtime; Boot *boot;
} System;

static Guid disk_guid = { 0x964e5b21, 0x6459, 0x11d2, { 0x8e, 0x39, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b } };
static Guid image_guid = { 0x5b1b31a1, 0x9562, 0x11d2, { 0x8e, 0x3f, 0, 0xa0, 0xc9, 0x69, 0x72, 0x3b } };
static u8 block[65536], found[65536];

enum { COLD, WARM, OFF, BY_ID = 2, NOT_FOUND = 14, SECTOR = 512 };

static int same(const u8 *a, const u8 *b)
{
    for (u32 at = 0; at < SECTOR; at++)
        if (a[at] != b[at])
            return 0;
    return 1;
}

/* The disc may be said to be longer than it is: what cannot be read is its end. */
static u64 copy(Disk *from, Disk *to)
{
    u64 size = (from->media->last + 1) * from->media->block;
    for (u64 at = 0; at < size; at += sizeof block) {
        u64 part = size - at < sizeof block ? size - at : sizeof block;
        if (from->read(from, from->media->id, at / from->media->block, part, block))
            break;
        if (to->write(to, to->media->id, at / to->media->block, part, block))
            return 1;
    }
    return to->flush(to);
}

u64 efi_main(void *self, System *system)
{
    Text *out = system->out;
    Boot *boot = system->boot;
    Image *image;
    Disk *own;
    void **handles;
    u64 count;

    if (boot->protocol(self, &image_guid, (void **)&image) || boot->protocol(image->device, &disk_guid, (void **)&own))
        return NOT_FOUND;
    if (!own->media->read_only) {
        out->write(out, u"ISOLA: the installed system runs\r\n");
        system->runtime->reset(OFF, 0, 0, 0);
    }
    if (boot->handles(BY_ID, &disk_guid, 0, &count, &handles))
        return NOT_FOUND;
    own->read(own, own->media->id, 0, own->media->block, block);
    for (u64 at = 0; at < count; at++) {
        Disk *disk;
        if (boot->protocol(handles[at], &disk_guid, (void **)&disk) || disk->media->read_only || disk->media->logical)
            continue;
        if (disk->read(disk, disk->media->id, 0, disk->media->block, found))
            continue;
        if (same(found, block)) {
            out->write(out, u"ISOLA: installed already\r\n");
            return NOT_FOUND;
        }
        out->write(out, copy(own, disk) ? u"ISOLA: failed\r\n" : u"ISOLA: installed, restarting\r\n");
        system->runtime->reset(COLD, 0, 0, 0);
    }
    out->write(out, u"ISOLA: no disk\r\n");
    system->runtime->reset(OFF, 0, 0, 0);
    return 0;
}

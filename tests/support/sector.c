/* A kernel for tests: reads the first sector of its disk, writes the second one, and counts from then on.
 *
 * On the serial line: "sector: TEXT" or "disk: REASON", then "at NUMBER" every now and then. The byte 'r' has it read
 * the sector again.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

__asm__(".section .multiboot, \"a\"\n"
        ".long 0x1BADB002, 0, -0x1BADB002\n"
        ".text\n"
        ".global _start\n"
        "_start: mov $stack + 8192, %esp; call run\n"
        "1: hlt; jmp 1b\n"
        ".comm stack, 8192, 16\n");

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
static void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static u8 in8(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static u16 in16(u16 port) { u16 value; __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static u32 in32(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }

static void say(const char *text)
{
    for (; *text; text++)
        out8(0x3f8, *text);
}

static void say_number(u32 number)
{
    char text[12];
    u32 at = sizeof text;
    text[--at] = 0;
    do
        text[--at] = '0' + number % 10;
    while (number /= 10);
    say(text + at);
}

/* --- a virtio disk with the registers of version 0.9 --------------------------------------------------------------- */

enum { PFN = 8, SIZE = 12, SELECT = 14, NOTIFY = 16, STATUS = 18, DRIVER_OK = 7, NEXT = 1, WRITTEN = 2 };

struct descriptor { u64 address; u32 length; u16 flags, next; };
static u8 queue[16384] __attribute__((aligned(4096)));
static struct { u32 kind, reserved; u64 sector; } header;
static char data[512];
static volatile u8 answer;
static u16 base, size, asked;

static u16 find(void)
{
    for (u32 device = 0; device < 32; device++) {
        u32 address = 0x80000000u | device << 11;
        out32(0xcf8, address);
        if (in32(0xcfc) != 0x10011af4)
            continue;
        out32(0xcf8, address | 4);
        out32(0xcfc, in32(0xcfc) | 7);
        out32(0xcf8, address | 0x10);
        return in32(0xcfc) & 0xfffc;
    }
    return 0;
}

static void begin(void)
{
    out8(base + STATUS, 0);
    out8(base + STATUS, 3);
    out32(base + 4, 0);
    out16(base + SELECT, 0);
    size = in16(base + SIZE);
    out32(base + PFN, (u32)queue / 4096);
    out8(base + STATUS, DRIVER_OK);
}

static u8 transfer(u32 kind, u64 sector)
{
    struct descriptor *table = (void *)queue;
    volatile u16 *given = (void *)(queue + 16 * size);
    volatile u16 *used = (void *)(queue + ((16 * size + 6 + 2 * size + 4095) & ~4095u));
    header.kind = kind;
    header.sector = sector;
    answer = 0xff;
    table[0] = (struct descriptor){(u32)&header, 16, NEXT, 1};
    table[1] = (struct descriptor){(u32)data, sizeof data, NEXT | (kind ? 0 : WRITTEN), 2};
    table[2] = (struct descriptor){(u32)&answer, 1, WRITTEN, 0};
    given[2 + asked % size] = 0;
    given[1] = ++asked;
    out16(base + NOTIFY, 0);
    while (used[1] != asked)
        in8(0x80);
    return answer;
}

static void read_first(void)
{
    if (transfer(0, 0) != 0) {
        say("disk: it cannot be read\n");
        return;
    }
    data[sizeof data - 1] = 0;
    say("sector: ");
    say(data);
    say("\n");
}

static void write_second(void)
{
    const char *text = "written by the kernel";
    for (u32 at = 0; at < sizeof data; at++)
        data[at] = *text ? *text++ : 0;
    say(transfer(1, 1) == 0 ? "written\n" : "disk: it cannot be written\n");
}

void run(void)
{
    base = find();
    if (base) {
        begin();
        read_first();
        write_second();
    } else {
        say("disk: there is none\n");
    }
    for (u32 number = 1;; number++) {
        say("at ");
        say_number(number);
        say("\n");
        for (u32 turn = 0; turn < 20000; turn++)
            in8(0x80);
        if (base && in8(0x3fd) & 1 && in8(0x3f8) == 'r')
            read_first();
    }
}

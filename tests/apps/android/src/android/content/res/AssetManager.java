package android.content.res;

import java.io.FileInputStream;
import java.io.IOException;

/** Assets lie uncompressed somewhere inside the app's archive. */
public final class AssetManager {
  private final String archive;
  private final String name;
  private final long offset;
  private final long length;

  public AssetManager(String archive, String name, long offset, long length) {
    this.archive = archive;
    this.name = name;
    this.offset = offset;
    this.length = length;
  }

  public AssetFileDescriptor openFd(String fileName) throws IOException {
    if (!fileName.equals(name)) {
      throw new java.io.FileNotFoundException(fileName);
    }
    return new AssetFileDescriptor(new FileInputStream(archive), offset, length);
  }
}

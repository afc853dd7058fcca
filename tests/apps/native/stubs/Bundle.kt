// As published by Android.
package android.os

class Bundle
